"""The command line of the converter."""

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import harmonizer.data.convert
from harmonizer.data.ceilings import CEILING_SPLITS, CeilingError, measure_ceilings
from harmonizer.data.class_names import parse_classes
from harmonizer.data.convert.job import PARTICIPANTS, Job, Options, Report, describe_maps
from harmonizer.data.convert.readers.discover import Found, find, fingerprint
from harmonizer.data.convert.readers.images import Encoding
from harmonizer.data.convert.readers.record import Stack
from harmonizer.data.convert.readers.tfrecord import RecordError
from harmonizer.data.convert.staging import Staging
from harmonizer.data.convert.workers import run_jobs
from harmonizer.data.human_map import Method
from harmonizer.data.progress import Progress, show_progress
from harmonizer.data.shards.cache import cache_folder
from harmonizer.data.shards.download import fetch_all
from harmonizer.data.shards.manifest import Ceilings, Manifest
from harmonizer.results import text_cell

SKIPPED = "skipped.csv"  # beside the shards
VERSION = 2  # of what is written: an interrupted conversion is gone on with by the same only
SAMPLES_PER_SHARD = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = _parser().parse_args(arguments)
    try:
        with show_progress() as progress:
            manifest, skipped = _convert(given, progress)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on", status=130)
    except BrokenProcessPool:
        return _complain("a worker was killed, perhaps for lack of memory; the same command goes on (fewer --workers)")
    except (ValueError, OSError) as error:
        return _complain(str(error))
    maps = sum(shard.maps for shard in manifest.shards)
    sys.stdout.write(f"{given.out}: {manifest.samples} samples, {maps} with maps, in {len(manifest.shards)} shards\n")
    if skipped:
        return _complain(f"skipped {len(skipped)}, first {skipped[0]}; see {given.out / SKIPPED}", status=3)
    return 0


def _convert(given: argparse.Namespace, progress: Progress) -> tuple[Manifest, list[RecordError]]:
    """Download, list, convert and publish; return the manifest and what was left out."""
    found = find(
        fetch_all(given.sources, given.cache, progress),
        classes=None if given.classes is None else parse_classes(given.classes),
        maps=given.maps,
        allow_missing_map=given.allow_missing_map,
    )
    if found.problems and (given.on_error == "fail" or not found.items):
        raise found.problems[0]
    if not found.items:
        raise ValueError(f"no samples in {', '.join(given.sources)}")
    sys.stdout.writelines(f"{note}\n" for note in found.notes)
    options = Options(
        classes=len(found.classes),
        prepare=given.prepare,
        map_bits=given.map_bits,
        encoding=given.encode,
        quality=given.quality,
        resize=given.resize,
        on_error=given.on_error,
        stack=given.stack,
    )
    plan = {
        "version": VERSION,
        "options": asdict(options),
        "shard_size": given.shard_size,
        "sources": fingerprint(found),
    }
    with Staging(given.out, plan, restart=given.restart) as staging:
        try:
            reports = _run(staging, found, options, given, progress)
        except RecordError:
            staging.drop()
            raise
        skipped = found.problems + [RecordError(*problem) for report in reports for problem in report.problems]
        shards = tuple(report.shard for report in reports if report.shard.samples)
        if not shards:
            staging.drop()
            raise skipped[0]
        ceilings = _measure(staging, given, progress)
        maps, kept = sum(shard.maps for shard in shards), sum(report.kept_maps for report in reports)
        manifest = Manifest(found.classes, describe_maps(maps, kept, options.prepare), shards, ceilings=ceilings)
        if skipped:
            _write_skipped(staging.data / SKIPPED, skipped)
        staging.publish(manifest)
    turned = sum(report.turned for report in reports)
    if turned:
        sys.stdout.write(f"{turned} images are shown upright by their EXIF orientation, as maps must have them\n")
    return manifest, skipped


def _measure(staging: Staging, given: argparse.Namespace, progress: Progress) -> Ceilings | None:
    """Measure the ceilings; drop a conversion whose stacks cannot be of people, for it needs other options."""
    with progress.task("measuring ceilings") as advance:
        try:
            return measure_ceilings(staging.data / PARTICIPANTS, splits=given.ceiling_splits, advance=advance)
        except CeilingError:
            staging.drop()
            raise


def _run(
    staging: Staging, found: Found, options: Options, given: argparse.Namespace, progress: Progress
) -> list[Report]:
    """Convert what is not done yet; return the reports of all shards."""
    size = given.shard_size
    parts = [found.items[start : start + size] for start in range(0, len(found.items), size)]
    reports = staging.finished()
    jobs = (Job(number, part) for number, part in enumerate(parts) if number not in reports)
    done = sum(len(parts[number]) for number in reports)
    with progress.task("converting", total=len(found.items), done=done) as advance:
        for job, report in run_jobs(jobs, staging.data, options, workers=given.workers):
            staging.keep(job.number, report)
            reports[job.number] = report
            advance(len(job.items))
    return [reports[number] for number in range(len(parts))]


def _write_skipped(path: Path, skipped: Sequence[RecordError]) -> None:
    """List what was left out, and why."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "record", "reason"))
        writer.writerows(map(text_cell, map(str, (error.path, error.record, error.reason))) for error in skipped)


def _complain(message: str, status: int = 1) -> int:
    """Write a message; return the exit status."""
    sys.stderr.write(f"convert: {message}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    summary, _, rest = (harmonizer.data.convert.__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m harmonizer.data.convert",
        description=summary.partition(":")[0] + ".",
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="file, folder or http(s) address (#sha256=HEX is checked)")
    add("--out", required=True, type=Path, metavar="DIR", help="folder of shards to make; must not exist")
    add("--prepare", choices=get_args(Method), default="fel2022", help="human maps (default: %(default)s)")
    add("--classes", metavar="imagenet|N|FILE", help="class names; default: ImageNet's, the folders', or the table's")
    add("--maps", type=Path, metavar="DIR", help="maps of the images in a folder, under the same relative names")
    add("--allow-missing-map", action="store_true", help="take samples without a map where the source has maps")
    add("--stack", choices=get_args(Stack), help="what stacks (N,H,W) of maps are of, where the files do not say")
    add("--on-error", choices=("fail", "skip"), default="fail", help="skip: leave out what is unusable, and list it")
    add("--shard-size", type=_positive, default=SAMPLES_PER_SHARD, metavar="N", help="samples (default: %(default)s)")
    add("--encode", choices=get_args(Encoding), default="keep", help="images anew (default: as they are)")
    add("--quality", type=int, choices=range(1, 101), default=95, metavar="1..100", help="of --encode jpeg or webp")
    add("--resize", type=_positive, metavar="PIXELS", help="shorter side of larger images")
    add("--map-bits", type=int, choices=(8, 16), default=16, help="of a map's pixel (default: %(default)s)")
    add("--ceiling-splits", type=_positive, default=CEILING_SPLITS, metavar="N", help="halvings of participants")
    add("--workers", type=_positive, default=len(os.sched_getaffinity(0)), metavar="N", help="processes")
    add(
        "--cache",
        type=Path,
        default=cache_folder("downloads"),
        metavar="DIR",
        help="of downloads (default: %(default)s)",
    )
    add("--restart", action="store_true", help="drop what an interrupted conversion into DIR left")
    return parser


def _positive(text: str) -> int:
    """Read a positive integer."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
