"""The batch that loaders produce and that models, attacks and metrics consume."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images with their labels and human maps."""

    images: Tensor  # (B,3,H,W) float32 in [0,1]
    labels: Tensor  # (B,) int64 in [0,K)
    human_map: Tensor  # (B,H,W) float32 >= 0; zero without a map
    has_map: Tensor  # (B,) bool
    # B sample names, unique within a data set: the key, with its shard if keys repeat, and with folder and shard if
    # training mixes several folders
    keys: list[str]
    mixup_labels: Tensor | None = None  # (B,) int64 labels of the samples mixed in; None without mixup
    # (B,) float32 share of the sample of `labels` and `keys`; None without mixup
    mixup_lam: Tensor | None = None

    @classmethod
    def of(
        cls, images: Tensor, labels: Tensor, human: Tensor | None = None, *, keys: Sequence[str] | None = None
    ) -> "Batch":
        """Make a batch from tensors.

        Args:
            images: (B,3,H,W) in [0,1].
            labels: (B,) int64.
            human: (B,H,W) human maps, or None without maps. A map of zeros counts as no map.
            keys: B names, which also seed attacks that draw random numbers; None numbers the images.

        Raises:
            ValueError: The shapes do not match.
        """
        maps = images.new_zeros(len(images), *images.shape[2:]) if human is None else human
        names = [str(number) for number in range(len(images))] if keys is None else list(keys)
        shapes = labels.shape == images.shape[:1] and maps.shape == (len(images), *images.shape[2:])
        if images.ndim != 4 or images.shape[1] != 3 or not shapes or len(names) != len(images):
            raise ValueError(
                f"expected images (B,3,H,W), labels (B,), human maps (B,H,W) and B keys, got {tuple(images.shape)}, "
                f"{tuple(labels.shape)}, {tuple(maps.shape)} and {len(names)} keys"
            )
        return cls(images, labels, maps, maps.flatten(1).any(1), names)

    def part(self, start: int, stop: int) -> "Batch":
        """Return samples ``start`` to ``stop``."""
        cut = slice(start, stop)
        return Batch(*(None if values is None else values[cut] for values in self))  # type: ignore[arg-type]
