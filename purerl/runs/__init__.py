"""The host side of a run: compile, train, write results, stop and resume.

runner      runs one program in its folder
claims      checks what a run folder contains
compiling, fitting, memory  compile programs for as many runs as the memory holds
session, position, epochs, stretches, playing, restoring  train, from the start or from a checkpoint
events, listeners  actions after each evaluation: curves.csv, progress, checkpoints, populations, limits
checkpoints, fork  save and restore the whole state of a run
pbt         population-based training
sinks       CSV, JSONL, TensorBoard, Weights & Biases
clock, display, summary, outcome, conclusion  time, progress bar, the table at the end
provenance, fingerprint  versions and commit; digests of the environment
algorithm_check  checks that an algorithm does what it declares
garbage_collection  pauses Python's garbage collector while programs are made
"""
