"""The description of a model: how it is built and how its images are prepared."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from harmonizer.data.transforms import CROP_MODES, INTERPOLATIONS
from harmonizer.untrusted import MOST_SIDE, plain_text, shortened

Kind = Literal["timm", "torchvision", "clip", "factory"]
BY_NAME = ("timm", "torchvision", "clip")  # kinds that a file may describe: none runs the user's code
OWN, ZERO_SHOT, PROBE = "own", "zero-shot", "probe"  # heads: trained with the network, made from texts, fitted later
HEADS = (OWN, ZERO_SHOT, PROBE)
PREFIXED = ("torchvision", "clip")  # kinds whose names a user types with a prefix
AS_IT_IS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean and std of a model that takes images in [0,1]


@dataclass(frozen=True)
class Architecture:
    """A network without its weights, and the preparation of its images."""

    kind: Kind  # library that builds it
    name: str  # name in timm, torchvision or open_clip, or `FILE.py:FUNCTION`
    mean: tuple[float, ...] = AS_IT_IS[0]  # per channel, in [0,1] units
    std: tuple[float, ...] = AS_IT_IS[1]  # per channel, in [0,1] units
    size: int | None = None  # input height and width in pixels; None if unknown
    crop_ratio: float = 1.0  # timm's `crop_pct`
    interpolation: str = "bilinear"  # one of the transforms' `INTERPOLATIONS`
    crop_mode: str = "center"  # one of `CROP_MODES`; see `JointTransform`
    num_classes: int | None = None  # size of the model's own head; None if unknown
    classes: tuple[str, ...] | None = None  # class names in the model's order; None if unknown
    model_args: Mapping[str, Any] = field(default_factory=dict)  # arguments that belong to the name
    tag: str | None = None  # weights tag of the name, in torchvision or open_clip
    weights: str | None = None  # folder of the weights that belong to the name
    head: str = OWN  # origin of the logits, one of `HEADS`
    # origin of the head, as plain values: prompts and class names of a zero-shot classifier; images and L2 strength of
    # a probe
    head_details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The name as a user types it."""
        return f"{self.kind}:{self.name}" if self.kind in PREFIXED else self.name

    @property
    def image_size(self) -> int:
        """Input height and width in pixels.

        Raises:
            ValueError: The size is unknown.
        """
        if self.size is None:
            raise ValueError(
                f"the input size of {self.name} is unknown; try image_size=PIXELS (data.image_size=PIXELS in "
                "training), or give the function an attribute size"
            )
        return self.size

    @property
    def geometry(self) -> dict[str, Any]:
        """The preparation of images, as arguments of :class:`harmonizer.data.transforms.JointTransform`."""
        return {
            "crop_ratio": self.crop_ratio,
            "interpolation": self.interpolation,
            "crop_mode": self.crop_mode,
            "fill": self.mean,  # colour of borders, as in timm
        }

    def plain(self) -> dict[str, Any]:
        """Return the fields that a checkpoint stores, as plain values: all but weights, class names and head."""
        kept = asdict(self) | {"mean": list(self.mean), "std": list(self.std), "model_args": dict(self.model_args)}
        centre = ("crop_mode",) * (self.crop_mode == "center")  # as version 0.1 had it
        omitted = ("tag", "weights", "classes", "head", "head_details", *centre)
        return {name: value for name, value in kept.items() if name not in omitted}

    def described_head(self) -> dict[str, Any]:
        """Return the description of the head for results and exported folders."""
        return {"head": self.head, **self.head_details}

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str) -> "Architecture":
        """Return the architecture that :meth:`plain` described, from values in a file.

        Raises:
            ValueError: A value is missing or invalid; the message begins with ``where``.
        """
        try:
            made = cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
        except (KeyError, TypeError):
            raise ValueError(f"{where}: expected the description of an architecture, got {shortened(values)}") from None
        plain_text(made.name, where)
        if made.kind not in BY_NAME or not isinstance(made.model_args, Mapping):
            raise ValueError(f"{where}: expected a kind of {', '.join(BY_NAME)}, got {shortened(made.kind)}")
        if made.size is not None and (not isinstance(made.size, int) or not 0 < made.size <= MOST_SIDE):
            raise ValueError(f"{where}: expected a size from 1 to {MOST_SIDE}, got {shortened(made.size)}")
        if made.crop_mode not in CROP_MODES or made.interpolation not in INTERPOLATIONS:
            got = shortened([made.crop_mode, made.interpolation])
            raise ValueError(
                f"{where}: expected a crop_mode of {', '.join(CROP_MODES)} and an interpolation of "
                f"{', '.join(INTERPOLATIONS)}, got {got}"
            )
        return made.fed(made.mean, made.std, where)

    def fed(self, mean: Sequence[float] | None, std: Sequence[float] | None, where: str = "") -> "Architecture":
        """Return this architecture with another mean or standard deviation of its images.

        Raises:
            ValueError: A setting is not three numbers, or a standard deviation is not positive.
        """
        found = {"mean": self.mean if mean is None else mean, "std": self.std if std is None else std}
        for name, values in found.items():
            numbers = isinstance(values, Sequence) and all(isinstance(value, int | float) for value in values)
            if not numbers or len(values) != 3 or not all(abs(value) < 1e6 for value in values):
                raise ValueError(f"{where or self.name}: expected {name} of three numbers, got {shortened(values)}")
        if not all(value > 0 for value in found["std"]):
            raise ValueError(f"{where or self.name}: expected a positive std, got {shortened(found['std'])}")
        return replace(self, mean=tuple(map(float, found["mean"])), std=tuple(map(float, found["std"])))


def nearest_names(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a hint that suggests the nearest names, empty if there are none.

    >>> nearest_names("resnt", ["resnet", "vit"], "torchvision:")
    '; did you mean torchvision:resnet?'
    """
    nearest = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(prefix + each for each in nearest)}?" if nearest else ""
