"""Speed and quality compared with peers: each module is a command that prints a table."""
