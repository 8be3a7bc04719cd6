"""The command line of the converter."""

import argparse
import csv
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, fields

from harmonizer.data.ceilings.split_half import CeilingError, measure_ceilings
from harmonizer.data.class_names import parse_classes
from harmonizer.data.convert.arguments import PREPARE, PREPARE_CLICKS, parser
from harmonizer.data.convert.job import Job, Options, Report, run_jobs
from harmonizer.data.convert.maps import PARTICIPANTS, Disk, describe_maps
from harmonizer.data.convert.readers.click_table import ClickOptions
from harmonizer.data.convert.readers.discover import find, fingerprint
from harmonizer.data.convert.readers.record import Found
from harmonizer.data.convert.readers.tfrecord import RecordError
from harmonizer.data.convert.staging import Staging
from harmonizer.data.disk import REFERENCE_SIDE
from harmonizer.data.progress import Progress, show_progress
from harmonizer.data.shards.download import fetch_all
from harmonizer.data.shards.manifest import Manifest
from harmonizer.results import text_cell

SKIPPED = "skipped.csv"  # next to the shards
VERSION = 2  # output version: an interrupted conversion is resumed by the same version only


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = parser().parse_args(arguments)
    try:
        with show_progress() as progress:
            manifest, skipped = _convert(given, progress)
    except KeyboardInterrupt:
        return _complain("interrupted; rerun the same command to resume", status=130)
    except BrokenProcessPool:
        return _complain(
            "a worker was killed, perhaps for lack of memory; rerun the same command, perhaps with fewer --workers"
        )
    except (ValueError, OSError, ImportError) as error:
        return _complain(str(error))
    maps = sum(shard.maps for shard in manifest.shards)
    sys.stdout.write(f"{given.out}: {manifest.samples} samples, {maps} with maps, in {len(manifest.shards)} shards\n")
    if skipped:
        return _complain(f"skipped {len(skipped)}, first {skipped[0]}; see {given.out / SKIPPED}", status=3)
    return 0


def _convert(given: argparse.Namespace, progress: Progress) -> tuple[Manifest, list[RecordError]]:
    """Download, list, convert and publish; return the manifest and the skipped samples."""
    clicks = ClickOptions(**{option.name: getattr(given, option.name) for option in fields(ClickOptions)})
    disk = Disk(given.disk, given.disk_most)
    disk.of((REFERENCE_SIDE, REFERENCE_SIDE))  # refuses impossible diameters before anything is read
    found = find(
        fetch_all(given.sources, given.cache, progress),
        classes=None if given.classes is None else parse_classes(given.classes),
        maps=given.maps,
        allow_missing_map=given.allow_missing_map,
        images=given.images,
        clicks=clicks,
    )
    if found.problems and (given.on_error == "fail" or not found.items):
        raise found.problems[0]
    if not found.items:
        why = f"; {found.filtered[-1]}" if found.filtered else ""
        raise ValueError(f"no samples in {', '.join(given.sources)}{why}")
    sys.stdout.writelines(f"{note}\n" for note in found.notes)
    sys.stdout.writelines(f"not counted: {reason}\n" for reason in found.filtered)
    only_clicks = all(item.kind == "clicks" for item in found.items)
    options = Options(
        classes=len(found.classes),
        prepare=given.prepare or (PREPARE_CLICKS if only_clicks else PREPARE),
        map_bits=given.map_bits,
        encoding=given.encode,
        quality=given.quality,
        resize=given.resize,
        on_error=given.on_error,
        stack=given.stack,
        clicks=clicks,
        disk=disk,
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
            skipped = found.problems + [RecordError(*problem) for report in reports for problem in report.problems]
            shards = tuple(report.shard for report in reports if report.shard.samples)
            if not shards:
                raise skipped[0]
            with progress.task("measuring ceilings") as advance:
                participants = staging.data / PARTICIPANTS
                ceilings = measure_ceilings(participants, splits=given.ceiling_splits, advance=advance)
        except (RecordError, CeilingError):  # other sources or options are needed
            staging.drop()
            raise
        maps, kept = sum(shard.maps for shard in shards), sum(report.kept_maps for report in reports)
        described = describe_maps(maps, kept, options.prepare, options.disk)
        manifest = Manifest(found.classes, described, shards, ceilings=ceilings)
        if outside := sum(report.outside for report in reports):
            found.filtered.append(RecordError(given.sources[0], None, f"{outside} clicks outside of their image"))
            sys.stdout.write(f"not counted: {found.filtered[-1]}\n")
        if skipped or found.filtered:
            with (staging.data / SKIPPED).open("w", newline="") as file:
                rows = [(error.path, error.record, error.reason) for error in (*skipped, *found.filtered)]
                csv.writer(file).writerows(
                    map(text_cell, map(str, row)) for row in [("file", "record", "reason"), *rows]
                )
        staging.publish(manifest)
    turned = sum(report.turned for report in reports)
    if turned:
        sys.stdout.write(f"{turned} images are turned upright by their EXIF orientation, which maps must match\n")
    return manifest, skipped


def _run(
    staging: Staging, found: Found, options: Options, given: argparse.Namespace, progress: Progress
) -> list[Report]:
    """Convert the shards that are not finished; return the reports of all shards."""
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


def _complain(message: str, status: int = 1) -> int:
    """Write a message; return the exit status."""
    sys.stderr.write(f"convert: {message}\n")
    return status
