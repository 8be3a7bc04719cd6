"""Seeding the global random generators."""

import lightning as L


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch.

    Raises:
        ValueError: The seed is not a whole number, or is out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"expected a seed that is a whole number from 0 to {2**32 - 1}, got {seed}")
    L.seed_everything(seed, verbose=False)
