"""Calls of a recording as loops that LLVM compiles: grouped, put into words, compiled, run."""
