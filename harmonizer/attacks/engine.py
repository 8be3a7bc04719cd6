"""The model under attack: frozen, its passes counted per image, run in batches that fit the device."""

import gc
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from harmonizer.fast import FastPath
from harmonizer.models.logits import Caller, evaluation_mode

log = logging.getLogger(__name__)

CPU_VALUES, CPU_ROWS = 800_000, (8, 64)  # per pass; 64 rows were fastest at 32 and at 64 px

Objective = Callable[[Tensor, slice], Tensor]
"""Maps logits (n,K), and their slice of the call's rows, to the values (n,) to ascend."""

Decide = Callable[[Tensor, Tensor], Tensor]
"""Maps a model's logits (n,K), and the indices (n,) int64 of their images, to the logits (n,K) that decide."""


@contextmanager
def frozen(model: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Hold the model in evaluation mode with gradients on, in full precision and deterministic.

    Works inside ``no_grad``, ``inference_mode`` and ``autocast``. Restores the mode of each submodule, the buffers, the
    global random state and the precision flags.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    precision = torch.get_float32_matmul_precision()
    cuda = device.type == "cuda"
    try:
        torch.set_float32_matmul_precision("highest")  # TF32 moves the decision boundary
        with (
            evaluation_mode(model),
            torch.random.fork_rng(devices=[device] if cuda else []),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            _channels_last_weights(model) if device.type == "cpu" else nullcontext(),
            FastPath.freed_memory_kept(device),
        ):
            torch.default_generator.manual_seed(seed)  # so that a model that draws noise is repeatable
            if cuda:
                torch.cuda.manual_seed(seed)
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


class Engine:
    """Evaluate a frozen model on any number of rows, counting the passes of each image.

    Rows of any images are packed into full batches, so that waiting images take the places of finished ones. When
    memory runs out, the batch is halved for good and the pass repeated.

    Args:
        model: Maps images (n,3,H,W) in [0,1] to logits (n,K). Its attribute ``fast``, as that of
            :class:`harmonizer.models.PixelModel`, is used when present.
        images: Number of images to count passes for.
        device: Device of the images.
        batch_size: Most rows in one pass. None takes what fits into a CPU's caches, and on other devices all rows
            while memory lasts.
        amp: Lower-precision dtype of the gradient passes, or None.
        classes: Least number of logits that the labels need.
        progress: Called with (images finished, images).
        decide: Applied to the logits before an attack sees them; see :meth:`Decision.against`.

    Attributes:
        forwards, backwards, unanswered: (images,) int64; passes per image, and passes with a non-finite logit.
    """

    def __init__(
        self,
        model: nn.Module,
        images: int,
        device: torch.device,
        *,
        batch_size: int | None = None,
        amp: torch.dtype | None = None,
        classes: int = 1,
        progress: Callable[[int, int], None] | None = None,
        decide: Decide | None = None,
    ) -> None:
        self._decide = decide
        self._classes = max(classes, 2)
        self._width = self._classes  # logits per image, updated by each pass
        self._progress = progress
        self.model = model
        self.call = Caller(model)
        own = getattr(model, "fast", None)
        self._fast = own if isinstance(own, FastPath) else FastPath(model)
        self.amp = amp
        self.batch_size = batch_size
        self.forwards = torch.zeros(images, dtype=torch.int64, device=device)
        self.backwards = torch.zeros_like(self.forwards)
        self.unanswered = torch.zeros_like(self.forwards)

    def logits(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return the logits (n,K) of ``inputs`` (n,3,H,W) in full precision; ``rows`` (n,) index their images."""
        if not len(inputs):
            return inputs.new_zeros(0, self._width)  # many models do not accept an empty batch

        def infer(part: slice) -> tuple[Tensor]:
            copied = inputs[part].clone(memory_format=self.layout(inputs))  # a model may change its input in place
            with torch.no_grad(), self._fast_layers(inputs):
                return (self._decided(self._checked(self.call(copied)), rows[part]),)

        self._count(self.forwards, rows)
        return self._seen(self._in_batches(infer, inputs)[0], rows)

    def gradient(self, inputs: Tensor, rows: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
        """Return the logits (n,K), and the gradient (n,3,H,W) of the objective with respect to ``inputs``.

        No parameter's gradient is computed.
        """
        if not len(inputs):
            return inputs.new_zeros(0, self._width), torch.zeros_like(inputs)

        def differentiate(part: slice) -> tuple[Tensor, Tensor]:
            layout = self.layout(inputs)
            leaf = inputs[part].detach().clone(memory_format=layout).requires_grad_()
            with (
                self._fast_layers(inputs),
                torch.autocast(inputs.device.type, dtype=self.amp, enabled=self.amp is not None),
            ):
                logits = self._checked(self.call(leaf))
            logits = self._decided(logits.to(inputs.dtype), rows[part])
            gradient = None  # stays None for a model that does not use its input
            if logits.requires_grad:
                (gradient,) = torch.autograd.grad(objective(logits, part).sum(), leaf, allow_unused=True)
            gradient = torch.zeros_like(leaf) if gradient is None else gradient
            return logits.detach(), gradient.contiguous(memory_format=layout)

        self._count(self.forwards, rows)
        self._count(self.backwards, rows)
        logits, gradient = self._in_batches(differentiate, inputs)
        return self._seen(logits, rows), gradient

    def start(self, images: Tensor, rows: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
        """Return the logits of the clean images in full precision, and the gradient there: one pass unless ``amp``."""
        logits, gradient = self.gradient(images, rows, objective)
        return (logits if self.amp is None else self.logits(images, rows)), gradient

    def report(self, share: float) -> None:
        """Report which share of the work is done."""
        if self._progress is not None:
            self._progress(round(share * len(self.forwards)), len(self.forwards))

    def layout(self, inputs: Tensor) -> torch.memory_format:
        """Choose how pixels lie in memory: channels last where that is faster (see benchmarks/README.md)."""
        return torch.channels_last if self._channels_last(inputs) else torch.contiguous_format

    def _channels_last(self, inputs: Tensor) -> bool:
        return inputs.dtype == torch.float32 and (inputs.device.type == "cpu" or self.amp is not None)

    def _fast_layers(self, inputs: Tensor) -> AbstractContextManager[None]:
        return self._fast.attack(on_cpu=self._channels_last(inputs) and inputs.device.type == "cpu")

    def _checked(self, logits: Tensor) -> Tensor:
        if logits.ndim != 2 or logits.shape[1] < self._classes:
            raise ValueError(
                f"expected logits (n,K), K at least 2, and labels in [0,K), got logits {tuple(logits.shape)} and "
                f"label {self._classes - 1}"
            )
        self._width = logits.shape[1]
        return logits

    def _decided(self, logits: Tensor, rows: Tensor) -> Tensor:
        return logits if self._decide is None else self._decide(logits, rows)

    def _seen(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Record which of the logits (n,K) of ``rows`` are not finite."""
        self.unanswered.index_add_(0, rows, (~logits.isfinite().all(1)).long())
        return logits

    def _count(self, counter: Tensor, rows: Tensor) -> None:
        counter.index_add_(0, rows, torch.ones_like(rows))

    def _in_batches(self, run: Callable[[slice], tuple[Tensor, ...]], inputs: Tensor) -> list[Tensor]:
        rows = len(inputs)
        if self.batch_size is None:
            low, high = CPU_ROWS  # so that the activations of a pass fit into a CPU's caches
            cached = min(max(CPU_VALUES // max(inputs[:1].numel(), 1), low), high)
            self.batch_size = cached if inputs.device.type == "cpu" else max(rows, 1)
        parts: list[tuple[Tensor, ...]] = []
        start = 0
        while start < rows:
            passes = max(1, math.ceil((rows - start) / self.batch_size))
            stop = start + math.ceil((rows - start) / passes)  # equal sizes: a small last pass is slow
            try:
                parts.append(run(slice(start, stop)))
                start = stop
            except RuntimeError as error:
                out_of_memory = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
                if stop - start <= 1 or not out_of_memory:
                    raise
                self.batch_size = (stop - start) // 2
                log.warning("out of memory with %d images at once; continuing with %d", stop - start, self.batch_size)
            else:
                continue
            gc.collect()  # outside the except block: the traceback holds the failed pass's tensors
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return list(parts[0]) if len(parts) == 1 else [torch.cat(pieces) for pieces in zip(*parts, strict=True)]


@contextmanager
def _channels_last_weights(model: nn.Module) -> Iterator[None]:
    """Hold the float32 weights of convolutions channels last, as the images are.

    Otherwise every pass reorders them, which takes a tenth of the time of a small batch on a large network. Subclasses
    of ``nn.Conv2d`` are skipped: they may rely on contiguous weights.
    """
    found = {module.weight for module in model.modules() if type(module) is nn.Conv2d}
    weights = [weight for weight in found if isinstance(weight, nn.Parameter) and weight.dtype == torch.float32]
    before = [weight.data for weight in weights]
    try:
        for weight, values in zip(weights, before, strict=True):
            weight.data = values.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        for weight, values in zip(weights, before, strict=True):
            weight.data = values
