"""Models that a sweep could not measure: one JSON file per model, next to the results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from harmonizer.results.folder import walk
from harmonizer.untrusted import parse_json

FAILURES = "failed"  # subfolder of the results


def read_failure(path: Path) -> tuple[str, str]:
    """Read the model that failed, and the reason.

    Raises:
        FileNotFoundError: The file no longer exists: the model has been measured since.
        ValueError: The file is damaged.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got a damaged file ({error}); delete it") from None
    if not isinstance(content, Mapping) or not all(isinstance(content.get(key), str) for key in ("model", "reason")):
        raise ValueError(f"{path}: expected the keys model and reason, got a damaged file; delete it")
    return content["model"], content["reason"]


def load_failures(paths: Sequence[Path]) -> dict[str, str]:
    """Read the models that failed, from folders of results at any depth.

    Returns:
        Reasons by model, sorted.

    Raises:
        ValueError: A file is damaged; the message names it.
    """
    folders = {folder.resolve() for path in paths for folder in walk(path) if folder.name == FAILURES}
    records = {file for folder in folders for file in folder.glob("[!.]*.json") if file.is_file()}
    return dict(sorted(read_failure(record) for record in records))
