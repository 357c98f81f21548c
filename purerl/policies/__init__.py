"""Trained policies: read from a run folder, played, drawn and exported. No physics is needed to read one.

load             `load_policy`, and all policies of a run
kept, paths, choice, from_checkpoint  which policies there are and which is meant
acting           a policy as a function in JAX
layers, formats, exporting  a policy as layers of NumPy, and as a file: npz, ONNX, StableHLO
evaluation, rendering, film  its returns, and episodes as pages and films
"""
