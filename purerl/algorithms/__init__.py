"""The learning algorithms: each is an `Algorithm`, a record of pure functions, and reads as its paper.

equations     one function per equation
networks      actors and critics
exploration   noise processes
optimization  what all share: Adam, a gradient step, a critic step, n-step batches
ddpg, td3, sac
"""
