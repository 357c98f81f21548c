"""All settings, and how files and flags become one checked `Config`. No JAX here.

kinds            the types of settings and their limits
hyperparameters  the hyperparameters of each algorithm
registry         the algorithms: hyperparameters, constructor, colour and presets of each
schema           all other settings: `Job`, `Plan`, `Keep`, `Population`, `Search`, and `Config`, which combines them
config           resolves presets, envs/, TOML files and flags to a `Config`
sweep_file       expands a sweep file to its programs
constructors     finds the hyperparameters of a constructor
spec_checks      checks an algorithm that is defined outside of purerl
"""
