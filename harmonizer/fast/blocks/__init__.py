"""Transformer blocks of timm's models as fewer functions, and without work that nothing reads."""
