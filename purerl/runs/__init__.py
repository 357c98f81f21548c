"""The host's side of a run: compile, train, write what comes, stop and resume.

runner      runs one program in its folder
claims      what a folder says of the run in it
compiling, fitting, memory  programs of as many runs as memory holds
session, position, epochs, stretches, playing, restoring  training, from the start or from a checkpoint
events, listeners  what happens after each evaluation: curves.csv, progress, checkpoints, populations, limits
checkpoints, fork  the whole state of a run on disk
pbt         population-based training
sinks       CSV, JSONL, TensorBoard, Weights & Biases
clock, display, summary, outcome, conclusion  time, progress bar, the table at the end
provenance, fingerprint  versions and commit; what an environment computes
algorithm_check  whether an algorithm does what it declares
garbage_collection  pauses Python's while programs are made
"""
