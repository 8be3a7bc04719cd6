"""Inspect a folder of shards, or one shard: ``python -m harmonizer.data.inspect FOLDER_OR_SHARD``.

All samples are read and decoded. The command prints counts, sizes, classes, human maps and all problems, and draws a
contact sheet of images with their maps. Exit status: 0 no problems; 1 problems; 2 wrong usage.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from harmonizer.cli.arguments import parser_of
from harmonizer.data.adopt import find_shards, name_some
from harmonizer.data.progress import show_progress
from harmonizer.data.shards.manifest import NAME, Manifest, read_manifest
from harmonizer.data.shards.validate import ShardReport, validate_shards
from harmonizer.data.sheet import draw_sheet

LISTED = 20  # problems
FEW = 5  # classes or sizes


def inspect(location: Path, *, decode: bool = True) -> tuple[Manifest | None, list[ShardReport], list[str]]:
    """Read a folder of shards, or one shard, and compare it with the manifest.

    Returns:
        The manifest, if there is one; the report of each shard; and all problems.

    Raises:
        FileNotFoundError: The folder or file does not exist.
        ValueError: The manifest is damaged.
    """
    folder = location if location.is_dir() else location.parent
    if not location.exists():
        raise FileNotFoundError(f"no folder or shard {location}")
    manifest = read_manifest(folder) if os.path.lexists(folder / NAME) else None
    shards = find_shards(location) if location.is_dir() else [location]
    classes = None if manifest is None else len(manifest.classes)
    reports = []
    with show_progress() as progress, progress.task("reading shards", total=len(shards)) as advance:
        for report in validate_shards(shards, decode=decode, classes=classes):
            reports.append(report)
            advance(1)
    problems = [problem for report in reports for problem in report.problems]
    if manifest is not None:
        problems += _compare(manifest, reports, folder, whole=location.is_dir())
    copies: dict[str, str] = {}
    for report in reports:
        first = copies.setdefault(report.shard.sha256, report.shard.file)
        if first != report.shard.file and report.samples:
            problems.append(f"{folder / report.shard.file} is a copy of {first}: its samples count twice")
    return manifest, reports, problems


def _compare(manifest: Manifest, reports: Sequence[ShardReport], folder: Path, *, whole: bool) -> Iterator[str]:
    """Yield the differences between shards and their manifest."""
    listed = {shard.file: shard for shard in manifest.shards}
    for report in reports:
        found, path = report.shard, folder / report.shard.file
        expected = listed.pop(found.file, None)
        if expected is None:
            yield f"{path} is not in the manifest"
            continue
        if (found.samples, found.maps) != (expected.samples, expected.maps):
            yield (
                f"{path} holds {found.samples} samples with {found.maps} maps, "
                f"the manifest says {expected.samples} with {expected.maps}"
            )
        if found.sha256 != expected.sha256:
            yield f"{path} has changed: its sha256 is not that of the manifest"
    if whole:
        yield from (f"{folder / file} is missing; the manifest lists it" for file in listed)


def describe(manifest: Manifest | None, reports: Sequence[ShardReport]) -> Iterator[tuple[str, str]]:
    """Yield the printed lines: title and text."""
    samples = sum(report.shard.samples for report in reports)
    maps = sum(report.shard.maps for report in reports)
    yield "shards", f"{len(reports)}, {sum(report.size for report in reports) / 1e6:.1f} MB"
    yield "samples", str(samples)
    prepared = f"; {manifest.maps}" if manifest is not None and maps else ""
    yield "with maps", f"{maps} ({maps / samples if samples else 0:.1%}){prepared}"
    labels = sum((report.labels for report in reports), Counter[int]())
    names = manifest.classes if manifest is not None else ()
    of = f" of {len(names)}" if names else ""
    common = (
        (names[label] if 0 <= label < len(names) else str(label), count) for label, count in labels.most_common(FEW)
    )
    yield "classes", f"{len(labels)}{of}; most often {', '.join(f'{name} ({count})' for name, count in common) or '-'}"
    for title, sizes in (
        ("image sizes", sum((report.images for report in reports), Counter[tuple[int, int]]())),
        ("map sizes", sum((report.heatmaps for report in reports), Counter[tuple[int, int]]())),
    ):
        common_sizes = (f"{width}x{height} ({count})" for (width, height), count in sizes.most_common(FEW))
        more = f" and {len(sizes) - FEW} more" if len(sizes) > FEW else ""
        yield title, (", ".join(common_sizes) or "-") + more
    turned = sum(report.turned for report in reports)
    if turned:
        yield "turned", f"{turned} images or maps, turned upright by their EXIF orientation"
    if manifest is not None and manifest.ceilings is not None:
        ceilings = manifest.ceilings
        yield "ceiling", f"{ceilings.overall}, floor {ceilings.floor}, over {len(ceilings.per_image)} images"
    keys = Counter(sample.key for report in reports for sample in report.samples)
    repeated = [key for key, count in keys.items() if count > 1]
    if repeated:
        yield "keys", f"{len(repeated)} in more than one shard, such as {repeated[0]}: samples are named SHARD/KEY"
    for title, members in (
        ("skipped", [name for report in reports for name in report.passed_over]),
        ("not read", [name for report in reports for name in report.dotted]),
    ):
        if members:
            yield title, name_some(members)
    ignored = sum((report.ignored for report in reports), Counter[str]())
    if ignored:
        yield "ignored", ", ".join(f".{extension} ({count})" for extension, count in ignored.most_common(FEW))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = parser_of("harmonizer.data.inspect", __doc__)
    parser.add_argument("location", type=Path, metavar="FOLDER_OR_SHARD")
    parser.add_argument("--sheet", type=Path, default=Path("contact_sheet.png"), metavar="PNG", help="(%(default)s)")
    parser.add_argument("--images", type=int, default=24, metavar="N", help="on the sheet; 0 for none (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="do not decode the images")
    given = parser.parse_args(arguments)
    try:
        manifest, reports, problems = inspect(given.location, decode=not given.quick)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"inspect: {error}\n")
        return 1
    lines = list(describe(manifest, reports))
    lines.append(("problems", str(len(problems)) if problems else "none"))
    samples = [sample for report in reports for sample in report.samples]
    if given.images > 0 and samples:
        step = max(len(samples) / given.images, 1)
        chosen = [samples[int(number * step)] for number in range(min(given.images, len(samples)))]
        draw_sheet(chosen, () if manifest is None else manifest.classes, given.sheet)
        lines.append(("sheet", str(given.sheet)))
    for title, text in lines:
        sys.stdout.write(f"{title:<12}{text}\n")
    for problem in problems[:LISTED]:
        sys.stdout.write(f"  {problem}\n")
    if len(problems) > LISTED:
        sys.stdout.write(f"  and {len(problems) - LISTED} more\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
