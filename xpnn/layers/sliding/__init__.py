"""Layers that slide a window over positions: convolution and pooling, on one to three axes."""
