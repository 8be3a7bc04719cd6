"""What an attack reports: one row an image, every image in exactly one status."""

from dataclasses import dataclass

from torch import Tensor

from harmonizer.statistics.status import Status as Status  # the name that attacks know it by


@dataclass(frozen=True)
class AttackResult:
    """Smallest adversarial perturbations found, one row an image, on the images' device.

    A radius that was not measured is NaN: only ``status`` says what the row means, so that no average can swallow a
    censored or misclassified image unnoticed.

    Attributes:
        status: (B,) int64, values of :class:`harmonizer.attacks.Status`.
        eps: (B,) float64; the perturbation budget at which the attack fooled the model. Attacks without a budget
            report the radius. NaN unless found.
        l2: (B,) float64; L2 norm of ``adversarial - images``, recomputed in float64. NaN unless found.
        linf: (B,) float64; largest absolute difference, likewise.
        prediction: (B,) int64; the class of ``adversarial``; without an adversarial, of the clean image.
        adversarial: (B,3,H,W) in the images' dtype and in [0,1]; the clean image unless found.
        forwards: (B,) int64; forward passes that the image took part in.
        backwards: (B,) int64; backward passes likewise.
        attack: The attack's name: scores of different attacks are not comparable.
        eps_max: Largest radius searched; a censored image's radius is above it, as far as the attack can tell.
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
    """What an attack function returns to :func:`harmonizer.attacks.minimal_radius`.

    Attributes:
        status: (B,) int64.
        eps: (B,) float64; read where found.
        prediction: (B,) int64 class of ``adversarial`` where found, of the clean image elsewhere.
        adversarial: (B,3,H,W); read where found.
        eps_max: Largest radius searched.
    """

    status: Tensor
    eps: Tensor
    prediction: Tensor
    adversarial: Tensor
    eps_max: float
