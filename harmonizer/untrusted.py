"""What files, servers and archives say is data: names, texts, JSON and ZIP files are checked here before they are used.

Every name that becomes part of a path passes :func:`inside` or :func:`file_name`, after all decoding.
"""

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any
from unicodedata import category

LONGEST_NAME = 255  # bytes of a file's name, the limit of common file systems
LONGEST_TEXT = 500  # characters of a label, a class name or a setting
MOST_CLASSES = 1_000_000  # that a model tells apart
MOST_SIDE = 8192  # pixels of an image
MOST_PICKLE = 2**26  # bytes of the names and plain values in a checkpoint
MADE_LENGTH = 100  # characters of a made name that are kept
DEEPEST = 32  # levels of JSON; ours have at most 8
RESERVED = ("failed",)  # folders next to the results
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # line breaks and what terminals obey
NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # and halves of characters, which JSON can spell


def safe_name(name: str) -> str:
    """Return a name that comes from outside, if it is the name of a file and nothing else.

    Args:
        name: As it will be used: percent signs and the like are decoded already.

    Raises:
        ValueError: It is empty, hidden, longer than file systems take, leads to another folder, or has control
            characters.

    >>> safe_name("000001.tar")
    '000001.tar'
    """
    unsafe = not name or name.startswith(".") or set(name) & set("/\\") or CONTROLS.search(name)
    if unsafe or len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        raise ValueError(
            f"expected the name of a file, without folders, control characters or a dot in front, "
            f"of at most {LONGEST_NAME} bytes, got {shortened(name)}"
        )
    return name


def inside(folder: Path, name: str) -> Path:
    """Return the path of a name that comes from outside, in its folder.

    Raises:
        ValueError: The name is not safe, or the path would lie elsewhere.
    """
    path = folder / safe_name(name)
    if path.absolute().parent != folder.absolute():
        raise ValueError(f"expected a file in {folder}, got {shortened(name)}")
    return path


def file_name(text: str) -> str:
    """Turn any text, such as a model's label, into a stable name that every file system takes.

    A text that had to be changed gets a digest of the original, so that two never share a name.

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
    """Return a text of at most so many characters that comes from outside, such as a label or the name of a class.

    Raises:
        ValueError: It is not a text, empty, too long, or has control characters; the message begins with ``what``.
    """
    if not isinstance(value, str) or not 0 < len(value) <= most or NO_TEXT.search(value.replace("\t", "")):
        raise ValueError(
            f"{what}: expected a text of 1 to {most} characters without control characters, got {shortened(value)}"
        )
    return value


def shortened(value: object) -> str:
    """Return what messages show of a value.

    >>> shortened("x" * 1000)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx... (1002 characters)"
    """
    text = repr(value[:LONGEST_NAME] if isinstance(value, list) else value)
    return text if len(text) <= 100 else f"{text[:60]}... ({len(text)} characters)"


def parse_json(text: str | bytes, *, strict: bool = False) -> Any:  # noqa: ANN401 - any JSON value
    """Read JSON from outside.

    Args:
        text: To read.
        strict: Refuse NaN and infinities, which Python's parser takes and JSON does not have.

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
    """Refuse a ZIP file that would grow when it is read.

    Args:
        path: ZIP file; other files pass.
        most: Bytes that the unpacked content may have; None asks for content that is not compressed, as
            ``torch.save`` writes it, with at most 64 MiB besides the tensors.

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
        raise ValueError(f"its content has {total} bytes, more than the {most} that are read")
    if most is None and any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its content is compressed, expected a file as torch.save writes it")
    if most is None and any(m.filename.endswith("data.pkl") and m.file_size > MOST_PICKLE for m in members):
        raise ValueError(f"it holds more than {MOST_PICKLE} bytes of names and plain values")
    if most is None and total > path.stat().st_size:
        raise ValueError(f"its content has {total} bytes, more than the file")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def is_name(text: str) -> bool:
    r"""Return whether a text can stand for an image: valid Unicode without control characters and line breaks.

    A line break would make a torn line look whole, and a control character is an instruction to a terminal.

    >>> is_name("a b\u202fc"), is_name("a\nb"), is_name("a\udcff")
    (True, False, False)
    """
    return text.isprintable() or not any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)
