"""Check samples that are read directly: each is converted in memory once, before anything is measured."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harmonizer.data.ceilings.split_half import measure_ceilings
from harmonizer.data.convert.job import Converted, Options, convert_record
from harmonizer.data.convert.maps import describe_maps, write_participants
from harmonizer.data.convert.readers.record import Found, Item, Record
from harmonizer.data.convert.readers.tfrecord import RecordError
from harmonizer.data.dataset import OnError
from harmonizer.data.human_map import RAW_SIZE, SIZE, Method
from harmonizer.data.progress import show_progress
from harmonizer.data.shards.manifest import Manifest, Shard
from harmonizer.data.shards.writer import HEATMAP

MOST_THREADS = 8


def choose_preparation(location: object, found: Found, read: Callable[[Item], Record], wanted: Method | None) -> Method:
    """Choose the preparation of maps by their sizes.

    Raises:
        ValueError: Some maps have a size that the preparation does not accept.
    """
    if wanted == "none":
        return "none"
    sizes: Counter[tuple[int, int]] = Counter()
    for item in found.items:
        try:
            human = read(item).human
        except RecordError:
            continue  # check_samples reports it
        if human is not None:
            sizes[human.values.shape[0], human.values.shape[1]] += 1
    others = {size: count for size, count in sizes.items() if size not in ((RAW_SIZE, RAW_SIZE), (SIZE, SIZE))}
    if others and (wanted is not None or len(others) < len(sizes)):
        (rows, columns), count = next(iter(others.items()))
        raise ValueError(
            f"{location}: --prepare {wanted or 'fel2022'} accepts maps of {RAW_SIZE}x{RAW_SIZE} and keeps those of "
            f"{SIZE}x{SIZE}, got {count} of {columns}x{rows}; {sum(sizes.values()) - sum(others.values())} of "
            f"{sum(sizes.values())} fit; try --prepare none, which keeps all maps unchanged"
        )
    return wanted or ("none" if others or not sizes else "fel2022")


def check_samples(
    location: object, found: Found, read: Callable[[Item], Record], options: Options, on_error: OnError
) -> tuple[Manifest, bool]:
    """Read all samples once; return their manifest and whether all can be used.

    Raises:
        RecordError: A sample cannot be used and ``on_error`` is ``"fail"``, or no sample can be used.
    """
    digest, problems, maps, kept, total = hashlib.sha256(), list(found.problems), 0, 0, len(found.items)
    with (
        TemporaryDirectory() as stacks,
        show_progress() as progress,
        progress.task(f"reading {location}", total=total) as advance,
        ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS)) as pool,
    ):

        def try_converting(item: Item) -> Converted | RecordError:
            try:
                return convert_record(read(item), item, options)
            except RecordError as error:
                return error

        try:
            for item, result in zip(found.items, pool.map(try_converting, found.items), strict=True):
                advance(1)
                if isinstance(result, RecordError):
                    problems.append(result)
                    if on_error == "fail":
                        raise result
                    digest.update(f"{item.key} cannot be used\n".encode())
                    continue
                maps, kept = maps + (HEATMAP in result.sample), kept + result.kept_map
                if result.participants is not None:
                    write_participants(Path(stacks), item.key, result.participants)
                for name, value in sorted(result.sample.items()):
                    digest.update(f"{name} {len(encoded(value))}\n".encode() + encoded(value))
        finally:
            pool.shutdown(cancel_futures=True)
        if len(problems) == total + len(found.problems):
            raise problems[0]
        ceilings = measure_ceilings(Path(stacks))
    shard = Shard("images", total + len(found.problems), maps, digest.hexdigest())
    return Manifest(
        found.classes, describe_maps(maps, kept, options.prepare), (shard,), ceilings=ceilings
    ), not problems


def encoded(value: Any) -> bytes:  # noqa: ANN401 - bytes, a label or a key
    """Return the bytes of a member."""
    return value if isinstance(value, bytes) else str(value).encode()
