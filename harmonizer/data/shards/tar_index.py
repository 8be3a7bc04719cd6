"""Find the samples in tar shards without decoding them, for random access."""

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from harmonizer.data.shards.manifest import Shard
from harmonizer.data.shards.tar import Member, scan_tar
from harmonizer.data.shards.writer import HEATMAP, IMAGE_EXTENSIONS, LABEL
from harmonizer.untrusted import is_name

LABEL_TEXT = re.compile(rb"\s*-?[0-9]{1,18}\s*")
ROLES = (*IMAGE_EXTENSIONS, LABEL, HEATMAP)  # the members that are read


@dataclass(frozen=True)
class Sample:
    """One sample of a shard."""

    shard: Path
    key: str  # name of its members up to the first dot
    members: dict[str, Member]  # by extension, for example `"heatmap.png"`


class Contents(NamedTuple):
    """Contents of a shard."""

    samples: list[Sample]
    # names of members that belong to no sample: folders, hidden files (macOS writes `._a.jpg` with each `a.jpg`),
    # files without an extension, and links whose names are not those of samples
    passed_over: list[str]


def read_contents(path: Path, expected: Shard | None = None) -> Contents:
    """List a shard's samples and the members that belong to none; ``expected`` is its entry in the manifest.

    Raises:
        FileNotFoundError: The file does not exist.
        OSError: It is a FIFO, a device or a folder.
        ValueError: It is not a tar file or is cut short, a header is damaged, a member occurs twice, is a link or a
            sparse file or has an invalid name, or the number of samples is not the manifest's (a tar file cut at a
            block boundary reads without an error, with fewer).
    """
    members: dict[str, dict[str, Member]] = defaultdict(dict)
    passed_over: list[str] = []
    try:
        for name, member, other in scan_tar(path):
            folder, _, file = name.rpartition("/")
            stem, _, extension = file.partition(".")
            role = extension.lower()
            if other and stem and role in ROLES:
                raise ValueError(
                    f"holds {name!r}, {other}, expected plain files (tar --dereference --hard-dereference)"
                )
            if other or not stem or not extension:
                passed_over.append(name)
                continue
            if not is_name(name):
                raise ValueError(f"holds {name!r}, expected a name in UTF-8 without control characters")
            found = members[f"{folder}/{stem}" if folder else stem]
            if role in found:
                raise ValueError(f"holds {name!r} twice, expected every name once")
            found[role] = member
        for key, parts in members.items():
            _check_dots(key, parts)
    except ValueError as error:
        raise ValueError(f"shard {path} {error}; copy or write it again") from None
    if expected is not None and len(members) != expected.samples:
        raise ValueError(
            f"shard {path} holds {len(members)} samples, the manifest says {expected.samples}: "
            "it is cut short or was changed; copy or write it again"
        )
    return Contents([Sample(path, key, found) for key, found in members.items()], passed_over)


def dotted_images(sample: Sample) -> list[str]:
    """Return the names of images that are not read because a sample's name ends at the first dot."""
    return [
        f"{sample.key}.{extension}"
        for extension in sample.members
        if extension != HEATMAP and "." in extension and extension.rpartition(".")[2] in IMAGE_EXTENSIONS
    ]


def any_repeated(shards: Iterable[Sequence[bytes | str]]) -> bool:
    """Return whether a key occurs in more than one shard.

    >>> any_repeated([["a", "b"], ["c"]]), any_repeated([["a", "b"], ["b"]])
    (False, True)
    """
    keys = list(chain.from_iterable(shards))
    return len(set(keys)) < len(keys)


def image_extension(members: Container[str]) -> str | None:
    """Return the extension of a sample's image."""
    return next((extension for extension in IMAGE_EXTENSIONS if extension in members), None)


def parse_label(text: bytes) -> int:
    r"""Return the label that a member holds.

    Raises:
        ValueError: The text is not an integer in ASCII digits; Python's ``int`` also takes ``1_0`` and other digits.

    >>> parse_label(b"7\n")
    7
    """
    if not LABEL_TEXT.fullmatch(text):
        raise ValueError(f"{text[:20]!r}, expected an integer")
    return int(text)


def has(extensions: Iterable[str]) -> str:
    """Describe a sample by its extensions, for messages.

    >>> has(["jpg", "json"]), has([])
    ('it has .jpg, .json', 'it has nothing that is read')
    """
    listed = ", ".join(f".{extension}" for extension in extensions)
    return f"it has {listed or 'nothing that is read'}"


def _check_dots(key: str, parts: dict[str, Member]) -> None:
    """Refuse an image ``a.b.jpg`` with a label ``a.b.cls``: both would belong to the sample ``a``.

    Raises:
        ValueError: Names of image and label contain a dot.
    """
    for extension in parts:
        middle, _, last = extension.rpartition(".")
        if middle and last == LABEL and any(f"{middle}.{image}" in parts for image in IMAGE_EXTENSIONS):
            raise ValueError(
                f"holds a sample '{key}.{middle}', expected a name without dots; it would end at the first"
            )
