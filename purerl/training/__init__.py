"""The training loop on the device: one run as a pure function of a key, and many runs as one program.

loop        act, store, learn and evaluate, in one scan
replay      the replay buffer (a ring: new rows overwrite the oldest)
normalizer  running statistics of observations
mapping     maps the loop over seeds, settings and devices; no other module does
threefry    JAX's random numbers, faster on a CPU

Terms:

- A run is one seed of one setting.
- A row is one step of all environments of a run.
- A round is `policy_delay` critic updates and the actor update after them.
- A cycle is some rounds and then some rows. An epoch is the cycles between two evaluations.
- A turn is a row or a cycle, depending on which of them is counted.
- A stretch is the turns that run before control returns to the host.
"""
