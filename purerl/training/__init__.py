"""What runs on the device: one run as a pure function of a key, and many of them as one program.

loop        act, store, learn and evaluate, in one scan
replay      the replay buffer
normalizer  running statistics of observations
mapping     maps the loop over seeds, settings and devices; the only place that does
threefry    JAX's random numbers, faster on a CPU
"""
