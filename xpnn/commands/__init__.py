"""What the commands of ``xpnn`` do, a file for each; ``xpnn.cli`` reads the command line."""
