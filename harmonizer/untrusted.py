"""Checks of untrusted input: names, texts, JSON and ZIP files from files, servers and archives.

Every name that becomes part of a path passes :func:`inside` or :func:`file_name` after all decoding.
"""

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any
from unicodedata import category

LONGEST_NAME = 255  # most bytes of a file name, the limit of common file systems
LONGEST_TEXT = 500  # most characters of a label, a class name or a setting
MOST_CLASSES = 1_000_000  # most classes of a model
MOST_SIDE = 8192  # most pixels of an image's side
MOST_PICKLE = 2**26  # most bytes of names and plain values in a checkpoint
MADE_LENGTH = 100  # most characters kept of a text that becomes a file name
DEEPEST = 32  # most nested levels of JSON; files of this project have at most 8
RESERVED = ("failed",)  # folders next to the results
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # line breaks and terminal control characters
NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # these, and lone surrogates, which JSON can contain


def safe_name(name: str) -> str:
    """Return an untrusted name, if it is a plain file name.

    Args:
        name: Name after all decoding, for example of percent signs.

    Raises:
        ValueError: The name is empty, hidden or too long for file systems, contains control characters, or leads to
            another folder.

    >>> safe_name("000001.tar")
    '000001.tar'
    """
    unsafe = not name or name.startswith(".") or set(name) & set("/\\") or CONTROLS.search(name)
    if unsafe or len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        raise ValueError(
            f"expected a file name of at most {LONGEST_NAME} bytes, without folders, control characters or a leading "
            f"dot, got {shortened(name)}"
        )
    return name


def inside(folder: Path, name: str) -> Path:
    """Return the path of an untrusted name in a folder.

    Raises:
        ValueError: The name is not safe, or the path would be outside the folder.
    """
    path = folder / safe_name(name)
    if path.absolute().parent != folder.absolute():
        raise ValueError(f"expected a file in {folder}, got {shortened(name)}")
    return path


def file_name(text: str) -> str:
    """Convert a text, such as a model's label, to a stable name that is valid in every file system.

    A text that has to be changed gets a digest of the original, so that no two texts share a name.

    Raises:
        ValueError: The text is empty.

    >>> file_name("resnet50.a1_in1k"), file_name("hf-hub:timm/resnet50")
    ('resnet50.a1_in1k', 'hf-hub_timm_resnet50-a8b88b3e')
    """
    if not text:
        raise ValueError("expected a name, got an empty one")
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:MADE_LENGTH].strip(".")
    if safe == text and text not in RESERVED:
        return safe
    return f"{safe}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def plain_text(value: object, what: str, *, most: int = LONGEST_TEXT) -> str:
    """Return an untrusted text of at most ``most`` characters, such as a label or a class name.

    Raises:
        ValueError: It is not a text, is empty or too long, or has control characters; the message begins with ``what``.
    """
    if not isinstance(value, str) or not 0 < len(value) <= most or NO_TEXT.search(value.replace("\t", "")):
        raise ValueError(
            f"{what}: expected a text of 1 to {most} characters without control characters, got {shortened(value)}"
        )
    return value


def shortened(value: object) -> str:
    """Return a value as messages show it.

    >>> shortened("x" * 1000)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx... (1002 characters)"
    """
    text = repr(value[:LONGEST_NAME] if isinstance(value, list) else value)
    return text if len(text) <= 100 else f"{text[:60]}... ({len(text)} characters)"


def parse_json(text: str | bytes, *, strict: bool = False) -> Any:  # noqa: ANN401 - any JSON value
    """Parse untrusted JSON.

    Args:
        text: JSON text.
        strict: Whether to refuse NaN and infinities, which Python's parser accepts although JSON has none.

    Raises:
        ValueError: It is not JSON, or nested more than 32 levels deep.
    """
    try:
        content = json.loads(text, parse_constant=_refuse) if strict else json.loads(text)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None
    level = [content]
    for _ in range(DEEPEST):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return content
    raise ValueError(f"nested more than {DEEPEST} levels deep")


def check_zip(path: Path, *, most: int | None = None) -> None:
    """Check that the content of a ZIP file is not too large.

    Args:
        path: ZIP file; other files pass.
        most: Most bytes of the unpacked content; None requires uncompressed content, as ``torch.save`` writes it, with
            at most 64 MiB besides the tensors.

    Raises:
        ValueError: The content is compressed, overlaps, or is too large.
        OSError: The file cannot be read.
        zipfile.BadZipFile: It is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    total = sum(member.file_size for member in members)
    if most is not None and total > most:
        raise ValueError(f"its content has {total} bytes, expected at most {most}")
    if most is None and any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its content is compressed, expected a file as torch.save writes it")
    if most is None and any(m.filename.endswith("data.pkl") and m.file_size > MOST_PICKLE for m in members):
        raise ValueError(f"it contains more than {MOST_PICKLE} bytes of names and plain values")
    if most is None and total > path.stat().st_size:
        raise ValueError(f"its content has {total} bytes, more than the file")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def is_name(text: str) -> bool:
    r"""Return whether a text can be the name of an image: valid Unicode without control characters and line breaks.

    A line break would make an incomplete line look complete, and terminals interpret control characters.

    >>> is_name("a b\u202fc"), is_name("a\nb"), is_name("a\udcff")
    (True, False, False)
    """
    return text.isprintable() or not any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)
