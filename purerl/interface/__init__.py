"""The Python interface: `purerl.train`, `purerl.load`, `Run` and `set_up_jax`. No JAX until they are called.

training  `train` and `load`
run       `Run`: the folder of a run as an object
given     names for environments and algorithms that are objects
launch    check and start a run: what the command line and `train` share
"""
