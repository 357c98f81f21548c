"""What the command lines share. No JAX until it is needed.

parser   errors of one line
flags    flags of settings
startup  JAX's compilation cache, and a CPU's cores as devices
"""
