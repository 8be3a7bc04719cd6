"""Lightning callbacks: evaluation, checkpoints, logs and output."""
