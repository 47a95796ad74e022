"""Layers of images: convolution and pooling, which slide a window over positions, and resizing."""
