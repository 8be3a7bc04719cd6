"""Convert samples of a source into a shard: the work of one process."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from harmonizer.data.convert.readers.dispatch import read
from harmonizer.data.convert.readers.images import Encoding, encode_image
from harmonizer.data.convert.readers.record import HumanMap, Item, Record, Stack, Values
from harmonizer.data.convert.readers.tfrecord import RecordError
from harmonizer.data.human_map import RAW_SIZE, SIZE, Method, prepare_human_map
from harmonizer.data.image import same_shape
from harmonizer.data.shards.manifest import Shard
from harmonizer.data.shards.writer import HEATMAP, LABEL, shard_name, write_shard
from harmonizer.files import replacing

PARTICIPANTS = "participants"  # folder next to the shards, with one .npy stack of participants' maps per sample
PREPARED = {
    "fel2022": "fel2022: 256 -> 64, 10-tap window of sigma 10 (moves by -0.46,-0.54 of 64), -> 224",
    "gaussian": "gaussian: 256 -> 64, centred Gaussian of sigma 2.83, -> 224",
    "none": "none: as in the source",
}


@dataclass(frozen=True)
class Options:
    """How samples are written.

    Attributes:
        classes: How many there are.
        prepare: How human maps are prepared.
        map_bits: Of a map's pixel, 8 or 16.
        encoding: Of images; ``"keep"`` leaves what shards can hold as it is.
        quality: Of JPEG and WebP that are encoded anew.
        resize: Shorter side in pixels of larger images.
        on_error: Whether a sample that cannot be used ends the conversion, or is skipped and listed.
        stack: What stacks of maps are of, where the files do not say.
    """

    classes: int
    prepare: Method = "fel2022"
    map_bits: Literal[8, 16] = 16
    encoding: Encoding = "keep"
    quality: int = 95
    resize: int | None = None
    on_error: Literal["fail", "skip"] = "fail"
    stack: Stack | None = None


class Job(NamedTuple):
    """The samples of one shard."""

    number: int
    items: Sequence[Item]


@dataclass
class Report:
    """What became of a job.

    Attributes:
        shard: What was written; without samples there is no file.
        problems: (file, record, reason) of what was left out.
        kept_maps: How many maps had the size of prepared ones already, and were kept as they were.
        turned: How many images are shown upright by their EXIF orientation.
    """

    shard: Shard
    problems: list[tuple[str, int | None, str]] = field(default_factory=list)
    kept_maps: int = 0
    turned: int = 0


class Converted(NamedTuple):
    """A sample for a shard.

    Attributes:
        sample: As shards have it.
        stack: Its participants' prepared maps (P,H,W), if there are several.
        kept_map: Whether its map was kept as it was though preparation was asked for.
        turned: Whether its image was shown upright by its EXIF orientation.
    """

    sample: dict[str, Any]
    stack: Values | None
    kept_map: bool
    turned: bool


def describe_maps(maps: int, kept: int, method: Method) -> str:
    """Return in words how maps were prepared, of which some were kept as they were."""
    if not maps:
        return "no maps"
    return PREPARED[method] + (f"; {kept} maps of {SIZE} kept as in the source" if kept else "")


def convert_job(job: Job, folder: Path, options: Options) -> Report:
    """Write one shard.

    Raises:
        RecordError: A sample cannot be used, and ``options.on_error`` is ``"fail"``.
    """
    report = Report(Shard(shard_name(job.number), 0, 0, ""))
    path = folder / shard_name(job.number)
    report.shard = write_shard(path, _samples(job, folder, options, report))
    if not report.shard.samples:
        path.unlink()
    return report


def _samples(job: Job, folder: Path, options: Options, report: Report) -> Iterator[dict[str, Any]]:
    """Yield the usable samples, and note the others."""
    for item in job.items:
        try:
            converted = convert_item(item, options)
        except RecordError as error:
            if options.on_error == "fail":
                raise
            report.problems.append((error.path, error.record, error.reason))
            continue
        if converted.stack is not None:
            _write_stack(folder / PARTICIPANTS / f"{item.key}.npy", converted.stack)
        report.kept_maps += converted.kept_map
        report.turned += converted.turned
        yield converted.sample


def convert_item(item: Item, options: Options) -> Converted:
    """Convert one sample.

    Raises:
        RecordError: The sample cannot be used.
    """
    return convert_record(read(item), item, options)


def convert_record(record: Record, item: Item, options: Options) -> Converted:
    """Convert one sample that has been read; errors as those of :func:`convert_item`."""
    if not 0 <= record.label < options.classes:
        raise item.error(f"label {record.label} is out of range; there are {options.classes} classes")
    image = encode_image(record.image, item, encoding=options.encoding, quality=options.quality, resize=options.resize)
    sample: dict[str, Any] = {"__key__": item.key, image.extension: image.content, LABEL: record.label}
    human, stack, kept = record.human, None, False
    notes = dict(record.notes)
    if human is not None:
        rows, columns = human.values.shape
        if not same_shape(image.size, (columns, rows)):
            width, height = image.size
            raise item.error(f"the heatmap is {columns}x{rows} and the image {width}x{height}: of different shape")
        values, kept = _prepare(human.values, item, options.prepare)
        participants = human.participants(item, options.stack)
        if participants is not None:
            stack = np.stack([_prepare(one, item, options.prepare)[0] for one in participants])
        sample[HEATMAP] = _encode_map(values, human, options.map_bits)
        if human.full_scale not in (255.0, 65535.0):
            notes["heatmap_white"] = human.full_scale
    if notes:
        sample["json"] = json.dumps(notes, sort_keys=True).encode()
    return Converted(sample, stack, kept, image.turned)


def _prepare(values: Values, item: Item, method: Method) -> tuple[Values, bool]:
    """Prepare a map, unless it is prepared already; say whether it was kept though it should have been prepared."""
    if method == "none":
        return values, False
    if values.shape == (SIZE, SIZE):
        return values, True
    if values.shape != (RAW_SIZE, RAW_SIZE):
        raise item.error(
            f"the heatmap is {values.shape[1]}x{values.shape[0]}; --prepare {method} takes {RAW_SIZE}x{RAW_SIZE} "
            f"(and keeps {SIZE}x{SIZE}); --prepare none keeps any"
        )
    return prepare_human_map(values, method=method), False


def _encode_map(values: Values, human: HumanMap, bits: int) -> bytes:
    """Encode a map as grey PNG."""
    white = 2**bits - 1
    grey = np.rint(np.clip(values / human.full_scale, 0, 1) * white).astype(np.uint8 if bits == 8 else np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


def _write_stack(path: Path, stack: Values) -> None:
    """Write participants' maps, atomically."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, stack.astype(np.float32), allow_pickle=False)
