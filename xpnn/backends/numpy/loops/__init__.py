"""Calls of a recording as loops that numba compiles: grouped, put into words, compiled, run."""
