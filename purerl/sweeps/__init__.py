"""Sweeps of several programs, searches, and the machines that they run on.

campaign   a sweep on disk: what is finished stays, what is not goes on
search     hyperparameter search by Optuna
hosts      several processes that share the runs
launchers  Ray and SLURM
"""
