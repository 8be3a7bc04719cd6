"""Random numbers that depend on the image, not on its position in a batch."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class Noise:
    """Draw noise for images from one generator per image.

    Args:
        images: (B,3,H,W).
        keys: B sample keys that seed the generators; None seeds them with the images' contents.
        seed: Seed of all draws.
    """

    def __init__(self, images: Tensor, keys: Sequence[str] | None, seed: int) -> None:
        self._images = images
        self._keys = keys
        self._seed = seed

    def normal(self, rows: Tensor, purpose: str) -> Tensor:
        """Return standard normal noise (n,3,H,W) for ``rows`` (n,), determined by the purpose."""
        shape, dtype = self._images.shape[1:], self._images.dtype
        draws = [torch.randn(shape, generator=self._generator(row, purpose), dtype=dtype) for row in rows.tolist()]
        return torch.stack(draws).to(self._images.device) if draws else self._images[:0]

    def uniform(self, purpose: str, shape: Sequence[int] = (1,)) -> Tensor:
        """Return uniform noise in [0,1) for all images, (B,*shape), determined by the purpose."""
        generators = [self._generator(row, purpose) for row in range(len(self._images))]
        draws = [torch.rand(tuple(shape), generator=own, dtype=self._images.dtype) for own in generators]
        return torch.stack(draws).to(self._images.device)

    def _generator(self, row: int, purpose: str) -> torch.Generator:
        digest = hashlib.sha256(f"{self._seed}/{purpose}/".encode())
        if self._keys is None:
            digest.update(self._images[row].contiguous().cpu().numpy().tobytes())
        else:
            digest.update(self._keys[row].encode())
        return torch.Generator().manual_seed(int.from_bytes(digest.digest()[:8], "big", signed=True))
