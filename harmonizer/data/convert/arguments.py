"""The options of the converter."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import harmonizer.data.convert
from harmonizer.cli.arguments import parser_of, positive
from harmonizer.data.ceilings.split_half import CEILING_SPLITS
from harmonizer.data.convert.readers.click_table import MIN_SUBJECTS, ClickOptions
from harmonizer.data.convert.readers.images import Encoding
from harmonizer.data.convert.readers.record import Stack
from harmonizer.data.disk import DIAMETER, LARGEST_DIAMETER
from harmonizer.data.human_map import Preparation
from harmonizer.files import cache_folder
from harmonizer.run import usable_cores

SAMPLES_PER_SHARD = 1000
PREPARE: Preparation = "fel2022"
PREPARE_CLICKS: Preparation = "disk"  # default for raw clicks, as in ClickMe v2


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    described = parser_of("harmonizer.data.convert", harmonizer.data.convert.__doc__)
    add = described.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="file, folder or http(s) address (#sha256=HEX is checked)")
    add("--out", required=True, type=Path, metavar="DIR", help="folder of shards to make; must not exist")
    add(
        "--prepare", choices=get_args(Preparation), help=f"human maps (default: {PREPARE}; of clicks: {PREPARE_CLICKS})"
    )
    add("--classes", metavar="imagenet|N|FILE", help="class names; default: ImageNet's, the folders', or the table's")
    add("--maps", type=Path, metavar="DIR|FILE.h5", help="maps of a folder of images: CLASS/IMAGE or CLASS_IMAGE.JPEG")
    add("--allow-missing-map", action="store_true", help="accept samples without a map where the source has maps")
    add("--stack", choices=get_args(Stack), help="meaning of stacks (N,H,W) of maps, where the files do not say")
    add("--on-error", choices=("fail", "skip"), default="fail", help="skip: skip and list unusable samples")
    add("--shard-size", type=positive, default=SAMPLES_PER_SHARD, metavar="N", help="samples (default: %(default)s)")
    add("--encode", choices=get_args(Encoding), default="keep", help="image format (default: unchanged)")
    add("--quality", type=int, choices=range(1, 101), default=95, metavar="1..100", help="for --encode jpeg or webp")
    add("--resize", type=positive, metavar="PIXELS", help="shorter side of larger images")
    add("--map-bits", type=int, choices=(8, 16), default=16, help="bits per pixel of a map (default: %(default)s)")
    add("--ceiling-splits", type=positive, default=CEILING_SPLITS, metavar="N", help="halvings of participants")
    add("--workers", type=positive, default=usable_cores(), metavar="N", help="processes")
    downloads = cache_folder("downloads")
    add("--cache", type=Path, default=downloads, metavar="DIR", help="folder of downloads (default: %(default)s)")
    _add_clicks(described)
    add("--restart", action="store_true", help="discard an interrupted conversion into DIR")
    return described


def _add_clicks(described: argparse.ArgumentParser) -> None:
    """Add the options of raw clicks and of their blur, with the published values as defaults."""
    group = described.add_argument_group("raw clicks (a CSV with image_path, clicks, user_id) and --prepare disk")
    add = group.add_argument
    add("--images", type=Path, metavar="DIR", help="images of raw clicks, CLASS/FILE")
    add("--min-catch", type=float, metavar="SHARE", help="least score on catch trials (default: %(default)s)")
    add("--keep-mobile", action="store_true", help="count trials on mobile devices")
    add("--keep-repeats", action="store_true", help="count all trials of a person on an image, not only the first")
    add("--min-clicks", type=positive, metavar="N", help="fewest clicks per trial (default: %(default)s)")
    add("--max-clicks", type=positive, metavar="N", help="keep the first N clicks per trial (default: all)")
    people = f"people per image, {MIN_SUBJECTS} (default: train)"
    add("--min-subjects", type=_subjects, metavar="train|val|co3d|N", help=people)
    add(
        "--click-size",
        type=_side,
        metavar="native|N",
        help="square of click coordinates (default: native, the image)",
    )
    add("--disk", type=positive, metavar="N", help="diameter at 256 pixels (default: %(default)s)")
    add("--disk-most", type=positive, metavar="N", help="largest diameter, odd (default: %(default)s)")
    described.set_defaults(**asdict(ClickOptions()), disk=DIAMETER, disk_most=LARGEST_DIAMETER)


def _subjects(text: str) -> int:
    """Parse a number of people, or the name of a set with a published one."""
    return MIN_SUBJECTS[text] if text in MIN_SUBJECTS else positive(text)


def _side(text: str) -> int | None:
    """Parse the side of a square in pixels; None is the image's own size."""
    return None if text == "native" else positive(text)
