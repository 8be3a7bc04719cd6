"""The maps of single participants that a conversion keeps: stacks of prepared maps, or clicks."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harmonizer.data.clicks import SUFFIX, Clicks, read_clicks
from harmonizer.data.disk import disk_area
from harmonizer.data.human_map import Preparation, prepare_human_map

SIDE = 256  # pixels of the shorter side before the crop; as published (image_shape)
CROP = 224  # pixels per side of the central crop; as published (center_crop)


class ParticipantMaps(NamedTuple):
    """Maps of several people for one image."""

    values: Tensor  # (P,H,W) float64; whole numbers of `unit` for clicks, so that sums of them tie exactly
    unit: float  # factor of the values


def participant_files(folder: Path) -> dict[str, Path]:
    """Return the files of participants' maps in a folder by key, sorted by key."""
    files = [path for path in folder.glob("*") if path.name.endswith((".npy", SUFFIX)) and path.name[0] != "."]
    return dict(sorted((path.name.removesuffix(SUFFIX).removesuffix(".npy"), path) for path in files))


def participant_maps(
    path: Path,
    *,
    prepare: Preparation | None = None,
    level: tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
) -> ParticipantMaps:
    """Read the participants' maps of one image.

    Args:
        path: ``KEY.npy``, a stack (P,H,W) of prepared maps, or ``KEY.clicks.npz``, people's clicks.
        prepare: Preparation of clicks; None is that of the conversion. Stacks are already prepared.
        level: (k, n) keeps the first clicks of each person, up to the k-th of n steps, from 0.
        device: Device of the result.

    Returns:
        The stack; maps of clicks are cropped as for evaluation: shorter side 256, central 224.

    Raises:
        OSError: The file does not exist.
        ValueError: It is damaged, or a level is given for a stack of maps.
    """
    if not path.name.endswith(SUFFIX):
        if level is not None:
            raise ValueError(f"{path}: expected clicks for the levels of click counts, got maps; convert raw clicks")
        stack = np.load(path, allow_pickle=False)
        return ParticipantMaps(torch.from_numpy(stack).to(device, torch.float64), 1.0)
    kept = read_clicks(path)
    clicks = kept.clicks if level is None else kept.clicks.first(*level)
    prepare = prepare or kept.prepare
    if prepare in ("fel2022", "gaussian"):
        counts = torch.from_numpy(clicks.counts()).to(device, torch.float64)
        return ParticipantMaps(prepare_human_map(counts, method=prepare), 1.0)
    if prepare == "disk":
        rows, columns = (pixels.numpy() for pixels in evaluation_pixels(clicks.height, clicks.width))
        values = torch.from_numpy(clicks.disk_sums(kept.diameter, rows, columns))
        return ParticipantMaps(values.to(device), disk_area(kept.diameter) ** -2)
    # One person at a time, to hold only one whole map.
    single = (Clicks([points], clicks.height, clicks.width) for points in clicks.points)
    crops = [evaluation_crop(torch.from_numpy(one.counts())) for one in single]
    return ParticipantMaps(torch.cat(crops).to(device, torch.float64), 1.0)


def evaluation_crop(maps: Tensor) -> Tensor:
    """Resize maps (...,H,W) to a shorter side of 256 by nearest neighbour, and take the central 224 x 224.

    Reference:
        ``compute_correlation_batch`` of serre-lab/human_clickme_data_processing, e6f9a76: torchvision's ``resize`` with
        ``NEAREST_EXACT``, then ``center_crop``.

    >>> evaluation_crop(torch.zeros(3, 375, 500)).shape
    torch.Size([3, 224, 224])
    """
    rows, columns = (pixels.to(maps.device) for pixels in evaluation_pixels(*maps.shape[-2:]))
    return maps.index_select(-2, rows).index_select(-1, columns)


def evaluation_pixels(height: int, width: int) -> list[Tensor]:
    """Return the rows and the columns, (224,) int64 each, that :func:`evaluation_crop` takes."""
    pixels = []
    for length in (height, width):
        resized = int(SIDE * length / min(height, width))
        places = torch.arange(length, dtype=torch.float64)[None, None]
        first = round((resized - CROP) / 2)
        pixels.append(F.interpolate(places, resized, mode="nearest-exact")[0, 0, first : first + CROP].long())
    return pixels
