"""What runs on the device: one run as a pure function of a key, and many of them as one program.

loop        act, store, learn and evaluate, in one scan
replay      the replay buffer, a ring
normalizer  running statistics of observations
mapping     maps the loop over seeds, settings and devices; the only place that does
threefry    JAX's random numbers, faster on a CPU

Words: a run is one seed of one setting. A row is one step of all environments of a run. A round is the critic updates
before an actor update, and that. A cycle is some rounds and then some rows; an epoch is the cycles between two
evaluations. A turn is a row or a cycle, whichever is counted. A stretch is the turns between two looks of the host.
"""
