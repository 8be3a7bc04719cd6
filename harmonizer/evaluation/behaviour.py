"""Compare a classifier's answers with people's, as model-vs-human does.

``python -m harmonizer.evaluation.behaviour MODEL --images FOLDER --humans CSV``

Images and answers have the format of model-vs-human: answers are CSV files with the columns subj, session, trial, rt,
object_response, category, condition and imagename, one row per trial. Images are matched by the end of their name
(``..._dog10-bird2.png``), and by condition if several conditions have an image of that name.
"""

import csv
import hashlib
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harmonizer.cli import clear_errors
from harmonizer.cli.arguments import parser_of
from harmonizer.data.image import decode_rgb
from harmonizer.data.transforms import JointTransform
from harmonizer.evaluation.load import load
from harmonizer.files import atomic_write, file_sha256
from harmonizer.functional.sixteen import CATEGORIES, sixteen_class_decision
from harmonizer.models import PixelModel, weights_digest
from harmonizer.results import ANSWERS, BEHAVIOUR, text_cell
from harmonizer.results.folder import strict_json
from harmonizer.statistics import error_consistency, shape_bias
from harmonizer.untrusted import shortened

COLUMNS = ("subj", "session", "trial", "rt", "object_response", "category", "condition", "imagename")
SUFFIXES = (".png", ".jpg", ".jpeg")
BATCH = 32


@dataclass(frozen=True)
class Trial:
    """One answer."""

    subject: str  # name of the observer
    image: tuple[str, str]  # condition and end of the image's name
    category: str  # category of the image
    response: str  # answer, `na` for none

    @property
    def right(self) -> bool:
        """Whether the answer is the image's category."""
        return self.response == self.category


def short_name(name: str) -> str:
    """Return the part of an image name that is the same in all trials.

    >>> short_name("0001_cl_s01_0_dog_00_dog10-bird2.png"), short_name("12_eid_n02690373_1.jpg")
    ('dog10-bird2', 'n02690373_1')
    """
    *before, last = Path(name).stem.split("_")
    return f"{before[-1]}_{last}" if before and before[-1].startswith("n0") else last


def texture_of(name: str) -> str:
    """Return the texture category of a cue-conflict image, empty for other images.

    >>> texture_of("dog10-bird2"), texture_of("n02690373_1")
    ('bird', '')
    """
    found = name.rpartition("-")[2].rstrip("0123456789") if "-" in name else ""
    return found if found in CATEGORIES else ""


def read_trials(path: Path) -> list[Trial]:
    """Read people's answers.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A column is missing, or a category is not one of the sixteen; the message names the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no answers at {path}")
    reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise ValueError(f"{path}, line 1: expected the columns {', '.join(COLUMNS)}, {missing[0]} is missing")
    trials = []
    for line in reader:
        if line["category"] not in CATEGORIES:
            raise ValueError(
                f"{path}, line {reader.line_num}: expected a category of {', '.join(CATEGORIES)}, "
                f"got {shortened(line['category'])}"
            )
        image = (line["condition"], short_name(line["imagename"]))
        trials.append(Trial(line["subj"], image, line["category"], line["object_response"]))
    return trials


def find_images(folder: Path, trials: Iterable[Trial]) -> dict[tuple[str, str], Path]:
    """Return the file of each image with an answer.

    Raises:
        FileNotFoundError: The folder does not exist, or has none of the images.
        ValueError: Two files are the same image.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of images at {folder}")
    conditions: dict[str, set[str]] = {}
    for trial in trials:
        conditions.setdefault(trial.image[1], set()).add(trial.image[0])
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        name = short_name(path.name)
        known = conditions.get(name, set())
        matching = known if len(known) == 1 else known & {*path.stem.split("_"), *path.relative_to(folder).parts}
        for condition in sorted(matching):
            if (other := found.get((condition, name))) is not None:
                raise ValueError(f"{other} and {path} are the same image {name} of condition {condition}")
            found[condition, name] = path
    if not found:
        raise FileNotFoundError(f"expected images with human answers in {folder}, got none")
    return found


def answers_of(model: PixelModel, images: Mapping[tuple[str, str], Path]) -> dict[tuple[str, str], str]:
    """Return a model's category for each image.

    Raises:
        ValueError: An image is damaged, or the model does not have the 1000 classes of ImageNet.
    """
    if model.architecture is None or model.image_size is None:
        raise ValueError("expected a model with an image size, got one without; try a model by name")
    transform = JointTransform(model.image_size, **model.architecture.geometry)
    device, keys = next(model.parameters()).device, list(images)
    answers: dict[tuple[str, str], str] = {}
    for start in range(0, len(keys), BATCH):
        part = keys[start : start + BATCH]
        pixels = []
        for key in part:
            try:
                pixels.append(transform(decode_rgb(images[key].read_bytes()), None, seed=0)[0])
            except ValueError as error:
                raise ValueError(f"{images[key]}: {error}") from None
        with torch.no_grad():
            decided = sixteen_class_decision(model.eval()(torch.stack(pixels).to(device)))
        answers |= dict(zip(part, (CATEGORIES[i] for i in decided.tolist()), strict=True))
    return answers


def compare(answers: Mapping[tuple[str, str], str], trials: Sequence[Trial]) -> dict[str, Any]:
    """Compare a model's answers with each person's.

    Args:
        answers: Category by image.
        trials: People's answers; those on other images are skipped.

    Returns:
        ``error_consistency`` with people and ``between_people``, averaged over pairs within a condition and then over
        conditions, as in model-vs-human; ``accuracy`` and ``people_accuracy``; ``shape_bias`` of the model and
        ``people_shape_bias``; ``conditions`` with their values; numbers of images, people and trials.
    """
    seen = [trial for trial in trials if trial.image in answers]
    own = {trial.image: Trial("model", trial.image, trial.category, answers[trial.image]) for trial in seen}
    conditions: dict[str, dict[str, Any]] = {}
    for condition in sorted({trial.image[0] for trial in seen}):
        people: dict[str, dict[tuple[str, str], bool]] = {}
        for trial in seen:
            if trial.image[0] == condition:
                people.setdefault(trial.subject, {})[trial.image] = trial.right
        right = {image: trial.right for image, trial in own.items() if image[0] == condition}
        others = list(people.values())
        conditions[condition] = {
            "error_consistency": _mean(_kappa(right, other) for other in others),
            "between_people": _mean(_kappa(a, b) for i, a in enumerate(others) for b in others[:i]),
            "accuracy": float(np.mean(list(right.values()))),
            "people_accuracy": _mean(float(np.mean(list(other.values()))) for other in others),
            "images": len(right),
        }
    return {
        **{name: _mean(one[name] for one in conditions.values()) for name in ("error_consistency", "between_people")},
        **{name: _mean(one[name] for one in conditions.values()) for name in ("accuracy", "people_accuracy")},
        "shape_bias": _bias(own.values()),
        "people_shape_bias": _bias(seen),
        "conditions": conditions,
        "images": len(own),
        "people": len({trial.subject for trial in seen}),
        "trials": len(seen),
        "trials_without_image": len(trials) - len(seen),
    }


def data_digest(images: Mapping[tuple[str, str], Path], trials: Sequence[Trial]) -> str:
    """Return the sha256 of the images and people's answers on them; comparable models have the same."""
    shown = sorted((*image, file_sha256(path)) for image, path in images.items())
    given = sorted((t.subject, *t.image, t.category, t.response) for t in trials if t.image in images)
    return hashlib.sha256(repr((shown, given)).encode()).hexdigest()


def _kappa(first: Mapping[tuple[str, str], bool], second: Mapping[tuple[str, str], bool]) -> float:
    """Return the error consistency of two observers on their common images."""
    both = sorted(first.keys() & second.keys())
    return float(error_consistency([first[i] for i in both], [second[i] for i in both])["kappa"])


def _bias(trials: Iterable[Trial]) -> dict[str, Any] | None:
    """Return the shape bias on cue-conflict images; None if there are none."""
    chosen = [(t.response, t.category, texture_of(t.image[1])) for t in trials if texture_of(t.image[1])]
    return shape_bias(*zip(*chosen, strict=True)) if chosen else None


def _mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _rows(
    label: str, answers: Mapping[tuple[str, str], str], images: Mapping[tuple[str, str], Path], trials: Sequence[Trial]
) -> Iterator[list[str]]:
    """Yield a model's answers as rows of model-vs-human's CSV."""
    yield list(COLUMNS)
    categories = {trial.image: trial.category for trial in trials}
    for number, (image, answer) in enumerate(answers.items(), start=1):
        cells = [label, "1", str(number), "NaN", answer, categories[image], image[0], images[image].name]
        yield [text_cell(cell) for cell in cells]


@clear_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = parser_of("harmonizer.evaluation.behaviour", __doc__)
    parser.add_argument("model", help="name of a model with ImageNet's 1000 classes (docs/models.md)")
    parser.add_argument("--pretrained", action="store_true", help="load published weights")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="images, also in subfolders")
    parser.add_argument("--humans", type=Path, required=True, nargs="+", metavar="CSV", help="people's answers")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help=f"folder for {ANSWERS} and {BEHAVIOUR}; the report shows those in a model's results folder",
    )
    given = parser.parse_args(arguments)
    trials = [trial for path in given.humans for trial in read_trials(path)]
    images, model = find_images(given.images, trials), load(given.model, pretrained=given.pretrained)
    answers = answers_of(model, images)
    digests = {"weights_sha256": weights_digest(model), "data_sha256": data_digest(images, trials)}
    found = {"model": given.model, **digests, **compare(answers, trials)}
    for name, value in found.items():
        if name not in ("conditions", *digests):
            sys.stdout.write(f"{name:<22}{_shown(value)}\n")
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        lines = "".join(",".join(row) + "\n" for row in _rows(given.model, answers, images, trials))
        atomic_write(given.out / ANSWERS, lines)
        atomic_write(given.out / BEHAVIOUR, strict_json(found))
    return 0


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{value['shape_bias']:.3f} ({value['n_shape']} by shape, {value['n_texture']} by texture)"
    return f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
