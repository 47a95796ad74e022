"""Layers whose ways part and come together: from nodes to numbered calls, there and back."""
