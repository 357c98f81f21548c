"""Parts that the command lines share. JAX is imported only when it is needed.

parser   an argument parser with one-line errors
flags    flags for settings, and flags that several commands have
startup  JAX's compilation cache, and CPU cores as devices of JAX
"""
