"""NumPy: the CPU. A recorded step is bound to NumPy calls, or to loops that LLVM compiles."""
