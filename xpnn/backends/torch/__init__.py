"""PyTorch: CPUs and GPUs, one operation after another or compiled."""
