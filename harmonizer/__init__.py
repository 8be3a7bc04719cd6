"""Train image classifiers to use people's visual strategies, and measure how closely their failures match people's.

>>> import harmonizer  # nothing else is imported until it is used
>>> model = harmonizer.load("torchvision:resnet18", num_classes=10, image_size=64)
>>> results = harmonizer.evaluate(model, "demo", attack="pgd", images=4, progress=False)
>>> len(results.rows)
4

The names in ``__all__`` are the public interface; everything else may change between versions.

Legend, used throughout the code base:

======== =====================================================================================
symbol   meaning
======== =====================================================================================
B        images in a batch
C        colour channels, 3
H, W     height and width in pixels
K        classes
L        pyramid levels
======== =====================================================================================

* ``images``  (B,3,H,W) float in [0,1]: pixel space everywhere; a model's mean/std normalisation lives inside it.
* ``labels``  (B,) int64 in [0,K).
* ``human``   (B,H,W) float >= 0: the ClickMe importance map; all zero for an image without one.
* ``has_map`` (B,) bool.
* ``radius``  L2 norm of ``adversarial - image`` in [0,1] pixel units; ``rms = radius / sqrt(3 H W)``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# Public name -> module that defines it.
_PLACES = {
    "AdversarialAlignment": "harmonizer.metrics",
    "FeatureAlignment": "harmonizer.metrics",
    "PerturbationTolerance": "harmonizer.metrics",
    "Results": "harmonizer.evaluation.results",
    "compare": "harmonizer.evaluation.compare",
    "evaluate": "harmonizer.evaluation.evaluate",
    "harmonizer_loss": "harmonizer.functional",
    "load": "harmonizer.evaluation.load",
    "load_results": "harmonizer.evaluation.results",
    "minimal_radius": "harmonizer.attacks",
    "spearman": "harmonizer.functional",
    "wrap": "harmonizer.evaluation.load",
}
__all__ = list(_PLACES)

if TYPE_CHECKING:  # type checkers and editors do not evaluate _PLACES
    from harmonizer.attacks import minimal_radius as minimal_radius
    from harmonizer.evaluation.compare import compare as compare
    from harmonizer.evaluation.evaluate import evaluate as evaluate
    from harmonizer.evaluation.load import load as load
    from harmonizer.evaluation.load import wrap as wrap
    from harmonizer.evaluation.results import Results as Results
    from harmonizer.evaluation.results import load_results as load_results
    from harmonizer.functional import harmonizer_loss as harmonizer_loss
    from harmonizer.functional import spearman as spearman
    from harmonizer.metrics import AdversarialAlignment as AdversarialAlignment
    from harmonizer.metrics import FeatureAlignment as FeatureAlignment
    from harmonizer.metrics import PerturbationTolerance as PerturbationTolerance


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the public names
    if name not in _PLACES:
        raise AttributeError(f"module 'harmonizer' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
