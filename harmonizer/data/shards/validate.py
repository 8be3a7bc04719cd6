"""Read a whole shard and report its contents and problems."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from harmonizer.data.image import ORIENTATION, decode_image, same_shape
from harmonizer.data.shards.manifest import Shard
from harmonizer.data.shards.tar import Member
from harmonizer.data.shards.tar_index import (
    ROLES,
    Sample,
    dotted_images,
    has,
    image_extension,
    parse_label,
    read_contents,
)
from harmonizer.data.shards.writer import HEATMAP, IMAGE_EXTENSIONS, LABEL, MAP_MODES
from harmonizer.files import file_sha256

TAR_END = bytes(1024)  # two empty blocks end a tar file; without them it is cut, perhaps between two members
FULL = Member(0, 1)  # in place of a member that does not exist
KNOWN = {LABEL, HEATMAP, "json"}  # besides the image


@dataclass
class ShardReport:
    """Contents and problems of a shard."""

    shard: Shard  # its entry for a manifest
    size: int  # file size in bytes
    samples: list[Sample] = field(default_factory=list)
    labels: Counter[int] = field(default_factory=Counter)
    images: Counter[tuple[int, int]] = field(default_factory=Counter)  # (width, height); empty unless decoded
    heatmaps: Counter[tuple[int, int]] = field(default_factory=Counter)  # (width, height); empty unless decoded
    turned: int = 0  # images and maps whose EXIF orientation was undone; 0 unless decoded
    ignored: Counter[str] = field(default_factory=Counter)  # extensions that the loader does not read
    passed_over: list[str] = field(default_factory=list)  # names of members that belong to no sample
    dotted: list[str] = field(default_factory=list)  # names of images that are not read because they contain a dot
    problems: list[str] = field(default_factory=list)  # messages that name file and sample


def validate_shards(paths: Sequence[Path], *, decode: bool, classes: int | None = None) -> Iterator[ShardReport]:
    """Yield the report of each shard (:func:`validate_shard`), reading several at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # checksums and decoders release the interpreter's lock
        try:
            yield from pool.map(partial(validate_shard, decode=decode, classes=classes), paths)
        finally:
            pool.shutdown(cancel_futures=True)


def validate_shard(path: Path, *, decode: bool, classes: int | None = None) -> ShardReport:
    """Read a shard. Damaged images are found only if they are decoded.

    Raises:
        FileNotFoundError, OSError: The file does not exist or is not a regular file.
    """
    try:
        samples, passed_over = read_contents(path)
    except ValueError as error:
        size = path.stat().st_size
        return ShardReport(Shard(path.name, 0, 0, file_sha256(path)), size, problems=[str(error)])
    maps = sum(HEATMAP in sample.members for sample in samples)
    report = ShardReport(Shard(path.name, len(samples), maps, file_sha256(path)), path.stat().st_size, samples)
    report.passed_over = passed_over
    with path.open("rb") as file:
        file.seek(max(report.size - len(TAR_END), 0))
        if file.read() != TAR_END:
            report.problems.append(f"{path} is cut short: it lacks the end of a tar file; copy or write it again")
        for sample in samples:
            report.ignored.update(sample.members.keys() - KNOWN - {image_extension(sample.members)})
            report.dotted += dotted_images(sample)
            problems = [f"has an empty .{name}" for name in ROLES if sample.members.get(name, FULL).size == 0]
            if not problems:
                problems += _check_label(sample, file, classes, report)
                problems += _check_images(sample, file, decode, report)
            report.problems += [f"{path}: sample {sample.key!r} {problem}" for problem in problems]
    return report


def read_member(sample: Sample, extension: str, file: BinaryIO) -> bytes:
    """Read one member of a sample from its open shard."""
    member = sample.members[extension]
    file.seek(member.offset)
    return file.read(member.size)


def _check_label(sample: Sample, file: BinaryIO, classes: int | None, report: ShardReport) -> Iterator[str]:
    """Count the label; yield its problems."""
    if LABEL not in sample.members:
        yield f"has no .{LABEL}; {has(sample.members)}"
        return
    try:
        label = parse_label(read_member(sample, LABEL, file))
    except ValueError as error:
        yield f"has .{LABEL} {error}"
        return
    report.labels[label] += 1
    if label < 0 or (classes is not None and label >= classes):
        yield f"has label {label}, out of range" + ("" if classes is None else f" of {classes} classes")


def _check_images(sample: Sample, file: BinaryIO, decode: bool, report: ShardReport) -> Iterator[str]:
    """Decode image and map and count their sizes; yield their problems."""
    extension = image_extension(sample.members)
    if extension is None:
        yield f"has no image, expected one of {', '.join(IMAGE_EXTENSIONS)}; {has(sample.members)}"
        return
    if not decode:
        return
    sizes: list[tuple[int, int]] = []
    for name, counter in ((extension, report.images), (HEATMAP, report.heatmaps)):
        if name not in sample.members:
            continue
        try:
            image = decode_image(read_member(sample, name, file))
        except ValueError as error:
            yield f"has a damaged .{name} ({error})"
            continue
        counter[image.size] += 1
        report.turned += ORIENTATION in image.info
        sizes.append(image.size)
        if name == HEATMAP and image.mode not in MAP_MODES:
            yield f"has a map of mode {image.mode}, expected 8- or 16-bit grey"
    if len(sizes) == 2 and not same_shape(*sizes):
        (width, height), (columns, rows) = sizes
        yield f"has an image of {width}x{height} and a map of another shape, {columns}x{rows}"
