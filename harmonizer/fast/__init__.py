"""Fast paths: the same values and gradients as torch's own layers, up to rounding, in less time.

The contract: inside a fast path every value and every derivative is torch's up to rounding, at any order that torch has
it, on any device and under autocast. A layer, an argument or a model that is not known runs as torch runs it. No
parameter, buffer, hook or random state is changed. Under ``create_graph`` the gradient of the images alone may be asked
for. ``fast=off`` runs torch's layers only, ``fast=core`` the closed forms of layers, ``fast=auto`` everything;
benchmarks/README.md says what each piece gains. Nothing outside imports from deeper inside.

* :class:`FastPath`: the fast paths of one model, by purpose.
* :func:`set_fast`, :func:`fast_mode` and :func:`fast`: the switch.
"""

from harmonizer.fast.path import FastPath
from harmonizer.fast.switch import MODES, fast, fast_mode, set_fast

__all__ = ["MODES", "FastPath", "fast", "fast_mode", "set_fast"]
