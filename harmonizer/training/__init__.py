"""Training: the LightningModule, its optimiser, double backprop, precision and checkpoints."""
