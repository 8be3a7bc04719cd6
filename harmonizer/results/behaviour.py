"""``behaviour.json`` in a results folder: agreement of a model's answers with people's."""

from pathlib import Path
from typing import Any

from harmonizer.results.schema import COUNT, NUMBER, TEXT, check_fields, decoded
from harmonizer.untrusted import parse_json

BEHAVIOUR, ANSWERS = "behaviour.json", "answers.csv"  # as harmonizer behaviour --out FOLDER writes them
_BIAS = {"shape_bias": NUMBER, "n_shape": COUNT, "n_texture": COUNT, "n": COUNT}
_FIELDS = {
    "weights_sha256": TEXT,
    "data_sha256": TEXT,
    "error_consistency": NUMBER,
    "between_people": NUMBER,
    "images": COUNT,
    "people": COUNT,
    "trials": COUNT,
}
_BIASES = ("shape_bias", "people_shape_bias")  # null without images of cue conflicts


def read_behaviour(folder: Path) -> dict[str, Any] | None:
    """Read the behaviour of a model, as ``harmonizer behaviour`` wrote it.

    Returns:
        The content of ``behaviour.json``, undefined values as NaN; None where the folder has no such file.

    Raises:
        ValueError: The file is damaged; the message names it and the field.
    """
    path = folder / BEHAVIOUR
    if not path.exists():
        return None
    try:
        content = parse_json(path.read_text(encoding="utf-8"), strict=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected strict JSON ({error}); try harmonizer behaviour again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected fields {', '.join(_FIELDS)}; try harmonizer behaviour again")
    found = {name: value if name in _BIASES and value is None else decoded(value) for name, value in content.items()}
    there = {name: _BIAS for name in _BIASES if found.get(name) is not None}
    check_fields(found, _FIELDS | there, str(path))
    return found
