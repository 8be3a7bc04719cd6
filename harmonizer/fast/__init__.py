"""Fast paths: the same values and gradients as torch's own layers, up to rounding, in less time.

The contract: inside a fast path every value and every derivative equals torch's up to rounding, at any order that torch
supports, on any device and under autocast. Unknown layers, arguments and models run as in torch. No parameter, buffer,
hook or random state is changed. Under ``create_graph`` only the gradient of the images may be requested. ``fast=off``
runs torch's layers only, ``fast=core`` the closed forms of layers, ``fast=auto`` everything; ``python -m
benchmarks.pieces`` prints the gain of each piece. The product imports from this module only.

* :class:`FastPath`: the fast paths of one model, by purpose.
* :data:`fast`: the switch, ``fast.set(mode)``, ``fast.mode`` and ``with fast(mode):``.
"""

from harmonizer.fast.path import FastPath
from harmonizer.fast.switch import fast

__all__ = ["FastPath", "fast"]
