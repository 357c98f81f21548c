"""Sweeps of several programs, hyperparameter search, and the machines that run them.

campaign   a sweep on disk: finished programs are kept, the others are resumed
search     hyperparameter search with Optuna
hosts      several processes that share the runs
launchers  Ray and SLURM
"""
