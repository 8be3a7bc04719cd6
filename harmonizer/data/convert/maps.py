"""Prepare the human map of one sample and the maps of its participants."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from harmonizer.data.clicks import SUFFIX, KeptClicks, write_clicks
from harmonizer.data.convert.readers.record import HumanMap, Item, Stack, Values
from harmonizer.data.disk import DIAMETER, LARGEST_DIAMETER, REFERENCE_SIDE, disk_blur, disk_diameter
from harmonizer.data.human_map import RAW_SIZE, SIZE, Preparation, prepare_human_map
from harmonizer.files import replacing

PARTICIPANTS = "participants"  # folder next to the shards with a stack of maps, or the clicks, for each sample
PREPARED: dict[Preparation, str] = {
    "fel2022": "fel2022: 256 -> 64, 10-tap window of sigma 10 (moves by -0.46,-0.54 of 64), -> 224",
    "gaussian": "gaussian: 256 -> 64, centred Gaussian of sigma 2.83, -> 224",
    "disk": "disk: flat disk, twice, at the map's own size, zero padding",
    "none": "none: as in the source",
}


class Disk(NamedTuple):
    """The disk of ``--prepare disk``."""

    diameter: int = DIAMETER  # in pixels, for an image with a shorter side of 256
    most: int = LARGEST_DIAMETER  # largest diameter in pixels, odd

    def of(self, shape: tuple[int, ...]) -> int:
        """Return the diameter in pixels for maps (...,H,W)."""
        return disk_diameter(shape[-2], shape[-1], diameter=self.diameter, most=self.most)


class PreparedMap(NamedTuple):
    """A map for a shard."""

    values: Values  # (H,W)
    full_scale: float  # value that becomes white
    kept: bool  # whether it was left unchanged because it has the size of a prepared map
    participants: Values | KeptClicks | None  # prepared maps (P,H,W) of single people, or their clicks


def describe_maps(maps: int, kept: int, method: Preparation, disk: Disk | None = None) -> str:
    """Describe how maps were prepared; ``kept`` of them were left unchanged."""
    if not maps:
        return "no maps"
    disk = disk or Disk()
    settings = f", diameter {disk.diameter} at a shorter side of {REFERENCE_SIDE}, at most {disk.most}"
    words = PREPARED[method] + (settings if method == "disk" else "")
    return words + (f"; {kept} maps of {SIZE} kept as in the source" if kept else "")


def prepare_map(human: HumanMap, item: Item, method: Preparation, *, stack: Stack | None, disk: Disk) -> PreparedMap:
    """Prepare a map; ``stack`` is the meaning of a stack where the file does not say.

    Raises:
        RecordError: The map has a size that the method does not accept, or is a stack of unknown meaning.
    """
    if human.clicks is not None:
        clicks, diameter = human.clicks, disk.of(human.values.shape)
        values = clicks.mean_blurred(diameter) if method == "disk" else _prepare(human.values, item, method, disk)[0]
        people = KeptClicks(clicks, method, diameter) if len(clicks.points) > 1 else None
        return PreparedMap(values, float(values.max()) or 1.0, False, people)
    values, kept = _prepare(human.values, item, method, disk)
    maps = human.participants(item, stack)
    participants = None if maps is None else np.stack([_prepare(one, item, method, disk)[0] for one in maps])
    full_scale = float(values.max()) or 1.0 if method == "disk" else human.full_scale
    return PreparedMap(values, full_scale, kept, participants)


def encode_map(values: Values, full_scale: float, bits: int) -> bytes:
    """Encode a map as grey PNG."""
    white = 2**bits - 1
    grey = np.rint(np.clip(values / full_scale, 0, 1) * white).astype(np.uint8 if bits == 8 else np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


def write_participants(folder: Path, key: str, participants: Values | KeptClicks) -> None:
    """Write the maps or clicks of single people, atomically."""
    if isinstance(participants, KeptClicks):
        write_clicks(folder / f"{key}{SUFFIX}", participants)
        return
    with replacing(folder / f"{key}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, participants.astype(np.float32), allow_pickle=False)


def _prepare(values: Values, item: Item, method: Preparation, disk: Disk) -> tuple[Values, bool]:
    """Prepare a map unless it already has the prepared size; return the map and whether it was left unchanged."""
    if method == "none":
        return values, False
    if method == "disk":
        blurred: Values = disk_blur(torch.from_numpy(values), disk.of(values.shape)).numpy()
        return blurred, False
    if values.shape == (SIZE, SIZE):
        return values, True
    if values.shape != (RAW_SIZE, RAW_SIZE):
        raise item.error(
            f"the heatmap is {values.shape[1]}x{values.shape[0]}; --prepare {method} accepts {RAW_SIZE}x{RAW_SIZE} "
            f"(and keeps {SIZE}x{SIZE}); --prepare disk blurs maps of any size, none keeps them"
        )
    return prepare_human_map(values, method=method), False
