"""Models that a sweep could not measure: one small file each, next to the results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from harmonizer.results.folder import walk
from harmonizer.untrusted import parse_json

FAILURES = "failed"  # folder in that of the results


def read_failure(path: Path) -> tuple[str, str]:
    """Return the model that a record is about, and why it failed.

    Raises:
        FileNotFoundError: The record is gone: the model did not fail after all.
        ValueError: The record is damaged.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged, expected JSON: {error}; delete it") from None
    if not isinstance(content, Mapping) or not all(isinstance(content.get(key), str) for key in ("model", "reason")):
        raise ValueError(f"{path} is damaged, expected the keys model and reason; delete it")
    return content["model"], content["reason"]


def load_failures(paths: Sequence[Path]) -> dict[str, str]:
    """Read why models failed, from the records in folders of results, at any depth.

    Returns:
        Reasons by model, sorted.

    Raises:
        ValueError: A record is damaged; the message names it.
    """
    folders = {folder.resolve() for path in paths for folder in walk(path) if folder.name == FAILURES}
    records = {file for folder in folders for file in folder.glob("[!.]*.json") if file.is_file()}
    return dict(sorted(read_failure(record) for record in records))
