"""Gymnasium's MuJoCo tasks in JAX.

tasks     the tasks, for example HalfCheetah-v5: rewards, terminations, random starts
dynamics  one step of the physics
contacts  contact detection
newton    the constraint solver
levels    the kinematics of the tree of bodies
"""
