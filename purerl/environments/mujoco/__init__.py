"""Gymnasium's MuJoCo tasks in JAX.

tasks     HalfCheetah-v5 and the others: rewards, terminations, random starts
dynamics  one step of the physics
contacts, newton, levels  how contacts are found, constraints are solved and the tree of bodies is walked
"""
