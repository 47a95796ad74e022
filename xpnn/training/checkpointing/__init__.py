"""Checkpoints: what a training run writes down of itself, and how another one goes on from it."""
