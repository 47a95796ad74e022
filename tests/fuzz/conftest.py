"""What builds the networks imports PyTorch, which not every machine has: no place for doctests."""

collect_ignore = ["graphs.py", "layers.py", "losses.py", "networks.py", "sequences.py", "twin.py"]
