"""Speed and quality beside the peers: each module is a command that prints a table."""
