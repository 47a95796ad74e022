"""What comes into training: looked at, and made into batches of the network's backend."""
