"""Keras weights, converted to timm models."""
