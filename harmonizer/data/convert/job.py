"""Convert samples of sources into shards, in this process or in several."""

import json
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from threading import Thread
from typing import Any, Literal, NamedTuple

import torch

from harmonizer.data.clicks import KeptClicks
from harmonizer.data.convert.maps import PARTICIPANTS, Disk, encode_map, prepare_map, write_participants
from harmonizer.data.convert.readers.click_table import ClickOptions
from harmonizer.data.convert.readers.discover import read
from harmonizer.data.convert.readers.images import Encoding, encode_image
from harmonizer.data.convert.readers.record import Item, Record, Stack, Values
from harmonizer.data.convert.readers.tfrecord import RecordError
from harmonizer.data.human_map import Preparation
from harmonizer.data.image import same_shape
from harmonizer.data.shards.manifest import Shard
from harmonizer.data.shards.writer import HEATMAP, LABEL, shard_name, write_shard

AHEAD = 2  # pending jobs per worker


@dataclass(frozen=True)
class Options:
    """Options of the command of the same names (:mod:`harmonizer.data.convert.arguments`)."""

    classes: int  # number of classes
    prepare: Preparation = "fel2022"
    map_bits: Literal[8, 16] = 16
    encoding: Encoding = "keep"
    quality: int = 95
    resize: int | None = None
    on_error: Literal["fail", "skip"] = "fail"
    stack: Stack | None = None
    clicks: ClickOptions = field(default_factory=ClickOptions)
    disk: Disk = field(default_factory=Disk)


class Job(NamedTuple):
    """The samples of one shard."""

    number: int
    items: Sequence[Item]


@dataclass
class Report:
    """Result of a job."""

    shard: Shard  # without samples there is no file
    # (file, record, reason) of each skipped sample
    problems: list[tuple[str, int | None, str]] = field(default_factory=list)
    kept_maps: int = 0  # maps left unchanged because they had the size of prepared ones
    turned: int = 0  # images turned upright by their EXIF orientation
    outside: int = 0  # clicks outside their image, which are not counted


class Converted(NamedTuple):
    """A sample as stored in shards, the maps or clicks of its participants, and counts for the report."""

    sample: dict[str, Any]
    participants: Values | KeptClicks | None = None
    kept_map: bool = False
    turned: bool = False
    outside: int = 0


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
    """Yield the usable samples; add the others to the report."""
    for item in job.items:
        try:
            converted = convert_record(read(item, options.clicks), item, options)
        except RecordError as error:
            if options.on_error == "fail":
                raise
            report.problems.append((error.path, error.record, error.reason))
            continue
        if converted.participants is not None:
            write_participants(folder / PARTICIPANTS, item.key, converted.participants)
        report.kept_maps += converted.kept_map
        report.outside += converted.outside
        report.turned += converted.turned
        yield converted.sample


def convert_record(record: Record, item: Item, options: Options) -> Converted:
    """Convert one sample.

    Raises:
        RecordError: The sample cannot be used.
    """
    if not 0 <= record.label < options.classes:
        raise item.error(f"label {record.label} is out of range; there are {options.classes} classes")
    image = encode_image(record.image, item, encoding=options.encoding, quality=options.quality, resize=options.resize)
    sample: dict[str, Any] = {"__key__": item.key, image.extension: image.content, LABEL: record.label}
    converted, human, notes = Converted(sample, turned=image.turned), record.human, dict(record.notes)
    if human is not None:
        rows, columns = human.values.shape
        if not same_shape(image.size, (columns, rows)):
            width, height = image.size
            raise item.error(f"the heatmap is {columns}x{rows}, expected the shape of the image, {width}x{height}")
        prepared = prepare_map(human, item, options.prepare, stack=options.stack, disk=options.disk)
        sample[HEATMAP] = encode_map(prepared.values, prepared.full_scale, options.map_bits)
        if prepared.full_scale not in (255.0, 65535.0):
            notes["heatmap_white"] = prepared.full_scale
        outside = 0 if human.clicks is None else human.clicks.outside
        converted = converted._replace(participants=prepared.participants, kept_map=prepared.kept, outside=outside)
    if notes:
        sample["json"] = json.dumps(notes, sort_keys=True).encode()
    return converted


def run_jobs(jobs: Iterable[Job], folder: Path, options: Options, *, workers: int) -> Iterator[tuple[Job, Report]]:
    """Convert jobs and yield them in the order in which they finish; a single worker is this process.

    Raises:
        RecordError: A sample cannot be used, and ``options.on_error`` is ``"fail"``.
        BrokenProcessPool: A worker was killed.
    """
    if workers == 1:
        for job in jobs:
            yield job, convert_job(job, folder, options)
        return
    pending: dict[Future[Report], Job] = {}
    # Workers are forked from a server that has the imports but, unlike this process, no threads of torch.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker)
    try:
        for job in jobs:
            pending[pool.submit(convert_job, job, folder, options)] = job
            while len(pending) >= AHEAD * workers:
                yield from _take(pending)
        while pending:
            yield from _take(pending)
    finally:
        pool.shutdown(cancel_futures=True)


def _take(pending: dict[Future[Report], Job]) -> Iterator[tuple[Job, Report]]:
    """Wait for at least one job; yield all that are done."""
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        yield pending.pop(future), future.result()


def _start_worker() -> None:
    """Use one thread, and exit with the parent even when that is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow(sentinel: int) -> None:
        wait_for([sentinel])
        os._exit(1)

    Thread(target=follow, args=(parent.sentinel,), daemon=True).start()
