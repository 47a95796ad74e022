"""What records a step, and what is true of the recording on every machine."""
