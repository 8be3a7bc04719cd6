"""Weights that Keras wrote, by the names that timm's models have."""
