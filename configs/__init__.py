"""The Hydra configs of train.py and evaluate.py; see the header of each file."""
