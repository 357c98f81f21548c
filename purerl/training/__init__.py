"""The training loop on the device: one run as a pure function of a key, and many runs as one program.

loop        learn, act, store and evaluate
replay      the replay buffer (a ring: new rows overwrite the oldest)
normalizer  running statistics of observations
mapping     maps the loop over seeds, settings and devices; no other module does
threefry    JAX's random numbers, faster on a CPU

Terms:

- A run is one seed of one setting.
- A row is one step of all environments of a run.
- A round is `policy_delay` critic updates and the actor update after them.
- A cycle is some rounds and then some rows. An epoch is the cycles between two evaluations.
- A turn is what a loop has to know to go on: the number of the next row, and the carry.
- A stretch is the rows that run before control returns to the host.
"""
