"""JAX: CPUs, GPUs and TPUs; every step is compiled."""
