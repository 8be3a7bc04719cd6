"""Train image classifiers whose visual strategies agree with people's, and measure how far their failures do.

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
* ``human``   (B,H,W) float >= 0: the ClickMe importance map; all zero where there is none.
* ``has_map`` (B,) bool.
* ``radius``  L2 norm of ``adversarial - image`` in [0,1] pixel units; ``rms = radius / sqrt(3 H W)``.
"""

__version__ = "0.1.0"
