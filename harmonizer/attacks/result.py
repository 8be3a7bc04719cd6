"""Results of an attack: one row per image, each with exactly one status."""

from dataclasses import dataclass

from torch import Tensor

from harmonizer.statistics.status import Status as Status  # re-exported


@dataclass(frozen=True)
class AttackResult:
    """Smallest adversarial perturbations found, one row per image, on the images' device.

    A radius that was not measured is NaN, so that no average includes a censored or misclassified image unnoticed.

    Attributes:
        status: (B,) int64, values of :class:`harmonizer.attacks.Status`.
        eps: (B,) float64; the perturbation budget at which the attack fooled the model. Attacks without a budget
            report the radius. NaN unless found.
        l2: (B,) float64; L2 norm of ``adversarial - images``, recomputed in float64. NaN unless found.
        linf: (B,) float64; largest absolute difference, likewise.
        prediction: (B,) int64; the predicted class of ``adversarial``, or of the clean image unless found.
        adversarial: (B,3,H,W) in the images' dtype and in [0,1]; the clean image unless found.
        forwards: (B,) int64; forward passes that the image took part in.
        backwards: (B,) int64; backward passes likewise.
        attack: Name of the attack; scores of different attacks are not comparable.
        eps_max: Largest radius searched; no smaller perturbation of a censored image was found.
    """

    status: Tensor
    eps: Tensor
    l2: Tensor
    linf: Tensor
    prediction: Tensor
    adversarial: Tensor
    forwards: Tensor
    backwards: Tensor
    attack: str
    eps_max: float


@dataclass(frozen=True)
class Finding:
    """Result of an attack function, for :func:`harmonizer.attacks.minimal_radius`.

    Attributes:
        status: (B,) int64.
        eps: (B,) float64; read where found.
        prediction: (B,) int64 predicted class of ``adversarial`` where found, of the clean image elsewhere.
        adversarial: (B,3,H,W); read where found.
        eps_max: Largest radius searched.
    """

    status: Tensor
    eps: Tensor
    prediction: Tensor
    adversarial: Tensor
    eps_max: float
