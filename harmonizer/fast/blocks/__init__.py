"""Transformer blocks of timm's models as fewer functions, without computing unused tokens."""
