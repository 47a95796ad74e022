"""What builds the networks imports PyTorch, which not every machine has: no place for doctests."""

collect_ignore = ["graphs.py", "losses.py", "networks.py", "twin.py"]
