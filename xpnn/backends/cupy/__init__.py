"""CuPy: NVIDIA and AMD GPUs."""
