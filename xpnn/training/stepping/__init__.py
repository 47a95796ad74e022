"""The training step: one pure function of arrays, and what it is made of."""
