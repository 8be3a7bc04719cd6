"""Settings of the loss and of the optimiser, checked when they are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import NoneType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from timm.optim import list_optimizers

from harmonizer.functional.levels import LEVEL_METRICS
from harmonizer.functional.loss import ScaleMatch
from harmonizer.functional.saliency import Deviation, Reduction, Score, reductions
from harmonizer.results.families import SUPERVISIONS

# The type of a value, its range in words, and the check of the range.
NotNegative = Annotated[float, ">= 0", lambda value: value >= 0]
Positive = Annotated[float, "> 0", lambda value: value > 0]
UpToOne = Annotated[float, "in (0,1]", lambda value: 0 < value <= 1]
BelowOne = Annotated[float, "in [0,1)", lambda value: 0 <= value < 1]
Count = Annotated[int, ">= 1", lambda value: value >= 1]
OWN_PASSES = ("sgt", "pag", "cyborg")  # supervisions with other passes than the harmonizer
SupervisionName = Annotated[str, f"to be one of {', '.join(SUPERVISIONS)}", tuple(SUPERVISIONS).__contains__]
LevelName = Annotated[str, f"to be one of {', '.join(LEVEL_METRICS)}", tuple(LEVEL_METRICS).__contains__]


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Cross-entropy, adversarial images and harmonizer loss, or another supervision of explanations.

    Attributes:
        supervision: Loss that ``harmonize`` adds to the cross-entropy: the ``"harmonizer"`` loss, or a baseline:
            ``"rrr"``, right for the right reasons (Ross et al. 2017), ``"sgt"``, saliency-guided training (Ismail et
            al. 2021), ``"pag"``, perceptually aligned gradients (Ganz et al. 2023), or ``"cyborg"``, a loss on class
            activation maps (Boyd et al. 2023); see :mod:`harmonizer.functional.supervision`.
        masked_share: Share of the pixels that ``"sgt"`` masks.
        harmonizer_weight: Factor lambda of that loss.
        harmonizer_start: Share of the training before that loss begins, with lambda 0, which costs less.
        harmonizer_warmup_epochs: Epochs during which lambda then rises from 0; may be a fraction.
        harmonize_every: Add the loss at every n-th optimiser step only.
        saliency_batch: ``"joint"`` runs all samples of a batch together, as published; ``"split"`` computes the
            saliency only for samples with a map; ``"auto"`` splits where the result is the same, which is where
            samples do not depend on each other. See :mod:`harmonizer.training.double_backward`.
        levels: Pyramid levels.
        level_metric: Error of a level; see :func:`harmonizer.functional.harmonizer_loss`, as for the next three.
        scale_match: How the human map is scaled to the saliency.
        std: Standard deviation in the standardisation of both maps.
        top_k: Share of the saliency's pixels to compare, the largest ones.
        saliency_reduction: Reduction over the channels, or several, whose losses are averaged; see
            :func:`harmonizer.functional.input_saliency`, as for the next.
        saliency_of: Score to differentiate.
        gradient_penalty: Weight in the harmonizer loss of the mean squared norm of that gradient, to which the
            comparison of maps is invariant.
        label_smoothing: Label smoothing of the cross-entropy.
        adversarial: Attack on the training images: ``"pgd"`` starts at the image (Madry et al. 2018), ``"fast"`` takes
            one step from a random start (Wong et al. 2020), ``"trades"`` trains on clean images and the divergence at
            the attacked ones (Zhang et al. 2019); ``"none"`` trains on clean images. See
            :mod:`harmonizer.training.adversarial`.
        adversarial_eps: Radius of its L2 ball, in [0,1] pixel units.
        adversarial_steps: Gradient steps; None takes 3, and 1 for ``"fast"``.
        adversarial_step_size: L2 length of a step in units of ``adversarial_eps``; None takes 2 / steps (Salman et al.
            2020), and 1.25 for ``"fast"`` (Wong et al. 2020).
        adversarial_start: Share of the training before the attack begins, on clean images, which costs less.
        adversarial_warmup_epochs: Epochs during which the radius then rises from 0; may be a fraction.
        adversarial_saliency: Image at which the harmonizer's saliency is taken, ``"clean"`` or ``"adversarial"``; None
            takes the adversarial one, which costs less, and the clean one with ``"trades"``, where both cost the same.
        trades_beta: Factor of the divergence of ``"trades"``.

    Raises:
        TypeError: A value is of the wrong type; the message names it.
        ValueError: A value is out of range or unknown; the message names it.
    """

    supervision: SupervisionName = "harmonizer"
    masked_share: UpToOne = 0.5
    harmonizer_weight: NotNegative = 1.0
    harmonizer_start: BelowOne = 0.0
    harmonizer_warmup_epochs: NotNegative = 0.0
    harmonize_every: Count = 1
    saliency_batch: Literal["auto", "joint", "split"] = "auto"
    levels: Count = 5
    level_metric: LevelName = "mse"
    scale_match: ScaleMatch = "released"
    std: Deviation = "population"
    top_k: UpToOne = 1.0
    saliency_reduction: Reduction | Sequence[Reduction] = "mean"
    saliency_of: Score = "logit"
    gradient_penalty: NotNegative = 0.0
    label_smoothing: BelowOne = 0.1
    adversarial: Literal["none", "pgd", "trades", "fast"] = "none"
    adversarial_eps: Positive = 0.5
    adversarial_steps: Count | None = None
    adversarial_step_size: Positive | None = None
    adversarial_start: BelowOne = 0.0
    adversarial_warmup_epochs: NotNegative = 0.0
    adversarial_saliency: Literal["clean", "adversarial"] | None = None
    trades_beta: NotNegative = 6.0

    def __post_init__(self) -> None:
        """Check all values."""
        object.__setattr__(self, "saliency_reduction", reductions(self.saliency_reduction))
        _check(self)
        if self.adversarial != "none" and self.supervision in OWN_PASSES:
            raise ValueError(
                f"expected adversarial none with supervision={self.supervision}, which has passes of its own, "
                f"got {self.adversarial}; try supervision=harmonizer or rrr"
            )
        if self.adversarial == "fast" and self.attack_steps != 1:
            raise ValueError(
                f"expected adversarial_steps=1 with adversarial=fast, got {self.adversarial_steps}; "
                "try adversarial=pgd for more"
            )

    @property
    def attack_steps(self) -> int:
        """Gradient steps of the attack."""
        return self.adversarial_steps or (1 if self.adversarial == "fast" else 3)

    @property
    def attack_step_size(self) -> float:
        """L2 step size of the attack, in units of the radius."""
        return self.adversarial_step_size or (1.25 if self.adversarial == "fast" else 2 / self.attack_steps)

    @property
    def saliency_at(self) -> str:
        """The image at which the saliency is taken."""
        return self.adversarial_saliency or ("clean" if self.adversarial == "trades" else "adversarial")


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """Optimiser and learning-rate schedule.

    Attributes:
        optimizer: timm optimiser name, for example ``adamw`` or ``sgd`` (with Nesterov momentum).
        lr: Learning rate after warm-up.
        lr_batch: Samples per step, over all processes, that ``lr`` is meant for: the rate is scaled to the run's own
            number. None does not scale it. See :func:`harmonizer.training.optim.scaled_lr`.
        layer_decay: Factor of the learning rate from each layer to the one below it; None has one rate for all.
        weight_decay: Weight decay of weights and biases, except for normalisation layers, embeddings and tokens.
        momentum: Momentum of SGD.
        schedule: timm schedule name.
        warmup_epochs: Linear warm-up from 0; may be a fraction.
        decay_epochs: Period, in epochs, of the decay of a ``step`` schedule.
        milestones: Epochs at which a ``multistep`` schedule decays.
        decay_rate: Factor of a ``step`` or ``multistep`` schedule.
        restart: Share of the training after which a ``cosine`` schedule restarts, without a warm-up; 1 for never.
        restart_rate: Learning rate at the restart, as a share of ``lr``.

    Raises:
        TypeError: A value is of the wrong type; the message names it.
        ValueError: A value is out of range or unknown to timm; the message names it.
    """

    optimizer: str = "adamw"
    lr: Positive = 1e-3
    lr_batch: Count | None = None
    layer_decay: UpToOne | None = None
    weight_decay: NotNegative = 1e-5
    momentum: BelowOne = 0.9
    schedule: Literal["constant", "cosine", "multistep", "poly", "step", "tanh"] = "cosine"
    warmup_epochs: NotNegative = 0.0
    decay_epochs: NotNegative = 30.0
    milestones: Sequence[int] = ()
    decay_rate: NotNegative = 0.1
    restart: UpToOne = 1.0
    restart_rate: Positive = 0.5

    def __post_init__(self) -> None:
        """Check all values."""
        object.__setattr__(self, "milestones", [int(epoch) for epoch in self.milestones])
        if self.optimizer not in list_optimizers():
            raise ValueError(f"timm has no optimizer {self.optimizer!r}; try adamw or sgd")
        _check(self)
        if self.restart < 1 and self.schedule != "cosine":
            raise ValueError(
                f"expected restart 1 with schedule {self.schedule}, got {self.restart:g}; try schedule=cosine"
            )


def split_settings(settings: Mapping[str, Any]) -> tuple[LossSettings, OptimSettings]:
    """Split the settings of a recipe or a checkpoint into those of the loss and of the optimiser.

    Raises:
        TypeError: A setting is unknown, or a value is of the wrong type; the message names it.
        ValueError: A value is out of range or unknown; the message names it.

    >>> loss, optim = split_settings({"levels": 3, "lr": 0.1})
    >>> loss.levels, optim.lr
    (3, 0.1)
    """
    names = {field.name for field in fields(LossSettings)}
    loss = {name: value for name, value in settings.items() if name in names}
    return LossSettings(**loss), OptimSettings(**{name: settings[name] for name in settings.keys() - names})


def _check(settings: LossSettings | OptimSettings) -> None:
    """Check all values by their annotations."""
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        kinds, value = get_args(hint) if get_origin(hint) is Union else (hint,), getattr(settings, name)
        or_null, rule = ", or null" * (NoneType in kinds), get_args(kinds[0])
        if isinstance(value, list) or not rule or (value is None and or_null):
            continue
        if get_origin(kinds[0]) is Literal:
            rule = str, f"to be one of {', '.join(rule)}", rule.__contains__
        kind, text, fits = rule
        if kind is not str and (isinstance(value, bool) or not isinstance(value, int | kind)):
            raise TypeError(f"expected a {'whole ' * (kind is int)}number for {name}{or_null}, got {value!r}")
        if not fits(value):
            raise ValueError(f"expected {name} {text}{or_null}, got {value!r}")
