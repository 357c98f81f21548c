"""The learning algorithms. Each is an `Algorithm`, a NamedTuple of pure functions, and follows its paper.

equations       one function per equation
networks        actors and critics
batch_renorm    batch renormalization, a layer of the networks of CrossQ
own_networks    networks from factories, and their checks
exploration     noise processes
optimization    shared parts: Adam, a gradient step, a critic step, n-step batches
ddpg, td3, sac  the first three algorithms
tqc, redq, droq, crossq
                algorithms that are SAC, except for what their files contain
"""
