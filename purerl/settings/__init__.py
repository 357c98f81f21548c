"""Everything that can be set, and how files and flags become one checked `Config`. No JAX here.

kinds            numbers, counts, choices, with their limits
hyperparameters  of each algorithm
registry         the algorithms: hyperparameters, constructor, colour and presets of each
schema           everything else that can be set: `Job`, `Plan`, `Keep`, `Population`, and all of it as a `Config`
config           resolves presets, envs/, TOML files and flags to a `Config`
sweep_file       expands a file of sweeps/ to its programs
"""
