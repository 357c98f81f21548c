"""Trained policies: load them from a run folder, evaluate, render and export them. Loading needs no physics.

load             `load_policy`, and all policies of a run
kept             the policies of a run in memory
paths, choice    which run and which policy the user means
from_checkpoint  the policies in a checkpoint
acting           a policy as a JAX function
layers, formats, exporting  a policy as NumPy layers, and as a file: npz, ONNX, StableHLO
evaluation       returns of a policy
keeping          a copy of a run without its checkpoints
rendering, film  episodes as web pages and films
hooks, videos    what is called after each evaluation of a run: a user's functions, and videos of the best seed
"""
