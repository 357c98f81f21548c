"""What the command lines share: errors of one line, flags of settings, and how JAX is started."""
