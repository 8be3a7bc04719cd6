"""Schema of a results folder: fields of ``summary.json`` and arrays of ``examples.npz``, with their checks."""

import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from harmonizer.statistics import STATUSES, stated
from harmonizer.untrusted import NO_TEXT, check_zip, is_name, shortened

VERSION = 1
MOST_BYTES = 2**31  # most bytes of the arrays in a file
ARRAYS = ("keys", "image", "adversarial", "human", "saliency")  # arrays of the examples
NAMES = ("label", "prediction")  # arrays of class names, missing in older examples
LONGEST = 4096  # most characters of a text, which may be the address of data
NUMBERS = (
    *("accuracy", "tolerance", "adversarial_alignment", "feature_alignment", "survival", "health", "cost"),
    *("robust_accuracy", "alignment_by_mask", "as_published", "scores"),
)
NUMBER, COUNT, TEXT, LIST = (float, int), int, str, list

_MEAN = {"mean": NUMBER, "se": NUMBER, "low": NUMBER, "high": NUMBER, "n": COUNT}
_ALIGNMENT = _MEAN | {"n_undefined": COUNT, "ceiling": NUMBER, "share_of_ceiling": NUMBER}
_RATIOS = {"mean_of_ratios": _MEAN}  # only some named scores have it

# Block -> field -> type. A field may be nested. Further fields are allowed everywhere.
SCHEMA: dict[str, Any] = {
    "model": {
        "name": TEXT,
        "label": TEXT,
        "family": TEXT,
        "pretrained": bool,
        "parameters": COUNT,
        "input_size": COUNT,
    },
    "data": {"name": TEXT, "manifest_sha256": TEXT, "samples": COUNT},
    "protocol": {"attack": TEXT, "settings": dict, "eps_max": NUMBER, "images": COUNT, "hash": TEXT},
    "accuracy": {"value": NUMBER, "se": NUMBER, "low": NUMBER, "high": NUMBER, "n": COUNT},
    "tolerance": {
        "n": COUNT,
        **{f"n_{status}": COUNT for status in STATUSES},
        "median": {"value": NUMBER, "low": NUMBER, "high": NUMBER, "n": COUNT},
        "restricted_mean": _MEAN,
        "paper_mean": _MEAN,
    },
    "survival": {"radii": LIST, "share": LIST},
    "cost": {"forwards": NUMBER, "backwards": NUMBER, "seconds": NUMBER},
    "software": {},
    "device": TEXT,
    "created": TEXT,
}
# Blocks that may be null: the model was not trained here, or the score was not measured.
OPTIONAL: dict[str, Any] = {
    "training": {"harmonize": bool},
    "adversarial_alignment": _ALIGNMENT,
    "feature_alignment": _ALIGNMENT,
    "health": {"masked": bool, "reasons": LIST},
}


def check_summary(summary: Mapping[str, Any], name: str) -> None:
    """Check the fields and types of a summary, and that its counts add up.

    Raises:
        ValueError: A field is missing or has the wrong type; the message starts with ``name`` and names the field.
    """
    if not isinstance(summary, Mapping) or summary.get("version") != VERSION:
        version = summary.get("version") if isinstance(summary, Mapping) else None
        raise ValueError(f"{name}, field version: expected {VERSION}, got {version!r}; measure again")
    present = {field: kind for field, kind in OPTIONAL.items() if summary.get(field, ...) is not None}
    if (scores := summary.get("scores")) is not None:
        named = scores.items() if isinstance(scores, Mapping) else ()
        ratios = {
            name for name, block in named if isinstance(block, Mapping) and block.get("mean_of_ratios") is not None
        }
        present["scores"] = {name: _ALIGNMENT | (_RATIOS if name in ratios else {}) for name, _ in named} or dict
    check_fields(summary, SCHEMA | present, name)
    if summary["model"]["input_size"] < 1:
        raise ValueError(f"{name}, field model.input_size: expected at least 1 pixel, got 0; measure again")
    tolerance, survival = summary["tolerance"], summary["survival"]
    total = sum(tolerance[f"n_{status}"] for status in STATUSES)
    if tolerance["n"] != total:
        raise ValueError(f"{name}, field tolerance.n: expected {total}, the sum of the statuses, got {tolerance['n']}")
    if len(survival["radii"]) != len(survival["share"]):
        raise ValueError(f"{name}, field survival.share: expected {len(survival['radii'])} values, one per radius")


def check_examples(examples: Mapping[str, NDArray[Any]], name: str, fields: Sequence[str] = ARRAYS) -> None:
    """Check the arrays of the attacked examples.

    Raises:
        ValueError: An array is missing, has the wrong shape or type, or is not finite; the message names it.
    """
    for field in fields:
        if field not in examples:
            raise ValueError(f"{name}, array {field}: missing; measure again")
    shape = np.shape(examples["image"])
    if len(shape) != 4 or shape[1] != 3:
        raise ValueError(f"{name}, array image: expected shape (E, 3, H, W), got {shape}")
    count, _, height, width = shape
    image, plane = (count, 3, height, width), (count, height, width)
    shapes = {"keys": (count,), "image": image, "adversarial": image, "human": plane, "saliency": plane}
    shapes |= dict.fromkeys(NAMES, (count,))
    for field, shape in ((field, shape) for field, shape in shapes.items() if field in examples):
        array = np.asarray(examples[field])
        if array.shape != shape:
            raise ValueError(f"{name}, array {field}: expected shape {shape}, got {array.shape}")
        kind = "U" if len(shape) == 1 else "f"
        if array.dtype.kind != kind:
            expected = "text" if kind == "U" else "floats"
            raise ValueError(f"{name}, array {field}: expected {expected}, got {array.dtype}")
        if not (np.isfinite(array).all() if kind == "f" else all(map(is_name, array.tolist()))):
            expected = "finite values" if kind == "f" else "printable names"
            raise ValueError(f"{name}, array {field}: expected {expected}")


def load_arrays(path: Path, most: int | None = None, names: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Read an NPZ archive without unpickling.

    Args:
        path: Archive.
        most: Number of items to read from the beginning of each array; None for all.
        names: Names of the arrays to read; empty for all.

    Raises:
        ValueError: The archive is damaged, or contains more than :data:`MOST_BYTES`.
    """
    try:
        if not path.is_file():  # opening a pipe would block
            raise OSError("it is not a file")
        check_zip(path, most=MOST_BYTES)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            wanted = [name for name in archive.files if not names or name in names]
            if most is None:
                return {name: archive[name] for name in wanted}
            return {name: _first_items(archive.zip, name, most) for name in wanted}
    # zipfile raises NotImplementedError for an unknown compression method.
    except (OSError, ValueError, EOFError, BadZipFile, TypeError, NotImplementedError, zlib.error) as error:
        raise ValueError(f"{path}: expected an archive of arrays ({error}); measure again") from None


def _first_items(archive: ZipFile, name: str, most: int) -> NDArray[Any]:
    """Decompress only the first items of an array."""
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(member)
        if fortran or dtype.hasobject or not shape:
            raise ValueError(f"array {name} is not in C order with plain items")
        shape = (min(most, shape[0]), *shape[1:])
        size = int(np.prod(shape)) * dtype.itemsize
        content = member.read(size)
        if len(content) < size:
            raise ValueError(f"array {name} is truncated")
    return np.frombuffer(content, dtype).reshape(shape)


def numbers(content: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Convert null and "inf" to numbers, in the numeric blocks of a summary.

    Bootstrap intervals of too few values, which earlier versions wrote, become NaN.
    """
    if not isinstance(content, dict):
        return content
    return {key: decoded(value) if key in NUMBERS and value is not None else value for key, value in content.items()}


def decoded(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Convert null and "inf" to numbers, at any depth."""
    if isinstance(value, dict):
        block = {key: decoded(item) for key, item in value.items()}
        share = {"value", "se"} <= block.keys()  # a proportion, whose Wilson interval is valid for any n
        if share:
            return block | ({"se": np.nan} if block["value"] in (0, 1) else {})  # 0 in earlier versions
        return stated(block) if "low" in block else block
    if isinstance(value, list):
        return [decoded(item) for item in value]
    return np.nan if value is None else float(value) if value in ("inf", "-inf") else value


def check_fields(content: Any, schema: Any, name: str, field: str = "") -> None:  # noqa: ANN401 - any JSON value
    """Check a value against a type, or a mapping against a schema, recursively.

    Raises:
        ValueError: The value does not match; the message starts with ``name`` and names the field.
    """
    if not isinstance(schema, dict):
        wrong = not isinstance(content, schema) or (isinstance(content, bool) and schema is not bool)
        unfit = schema is TEXT and not wrong and (len(content) > LONGEST or NO_TEXT.search(content))
        # Integers that fit into no column and no float.
        beyond = schema in (COUNT, NUMBER) and isinstance(content, int) and not -(2**63) <= content < 2**63
        if wrong or unfit or beyond or (schema is COUNT and content < 0):
            expected = {
                NUMBER: "a number",
                COUNT: "a count >= 0",
                TEXT: f"text of at most {LONGEST} characters without control characters" if unfit else "text",
                LIST: "a list",
            }.get(schema, "true or false")
            raise ValueError(f"{name}, field {field}: expected {expected}, got {shortened(content)}; measure again")
        return
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{name}, field {field}: expected fields {', '.join(schema)}, got {shortened(content)}; measure again"
        )
    for key, kind in schema.items():
        path = f"{field}.{key}" if field else key
        if key not in content:
            raise ValueError(f"{name}, field {path}: missing; measure again")
        check_fields(content[key], kind, name, path)
