"""Layers over (batch, time, features): recurrence, attention, positions, masks."""
