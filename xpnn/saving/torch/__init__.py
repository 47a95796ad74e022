"""The weights of PyTorch's layers, read and written without PyTorch."""
