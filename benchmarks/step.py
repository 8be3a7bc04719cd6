"""Time a harmonized training step: ``python -m benchmarks.step [--models NAME...] [--size 64]``.

Four steps alternate on the same network and images: plain cross-entropy; the harmonized step of this project with a
human map for every sample, and for one in four, in a split batch; and a straightforward double backprop. Times are the
best of each step, as ratios to the plain step. The floor with all samples mapped is 2.0: a plain step costs three
convolutions; the gradient of the image adds one, and its derivatives two.
On a CPU freed memory is kept, as in training; ``--release`` shows glibc's default.
``--recipes`` times the steps of recipe=fel2022 and recipe=modern instead; ``--adversarial`` the steps of adversarial
training alone and with the harmonizer, with a human map for every sample, next to the ratio of their passes.
"""

import argparse
import contextlib
import itertools
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from harmonizer.data.batch import Batch
from harmonizer.fast.cpu.malloc import keep_freed_memory
from harmonizer.functional import harmonizer_loss
from harmonizer.functional.saliency import reduce_channels
from harmonizer.models import PixelModel
from harmonizer.training.double_backward import logits_and_gradient
from harmonizer.training.module import HarmonizerModule
from harmonizer.training.precision import promoted
from harmonizer.training.steps import step_passes

MODELS = ("resnet18", "resnet50", "vit_tiny_patch16_224", "vit_small_patch16_224", "convnext_tiny")
DEMO_MODEL = "test_efficientnet_gn"  # network of the demo pair
ADVERSARIAL_MODELS = (DEMO_MODEL, "test_vit", "resnet18")
CLASSES = 1000
RECIPES = Path(__file__).parents[1] / "configs" / "recipe"
ATTACKS: tuple[dict[str, Any], ...] = (
    {"adversarial": "pgd"},
    {"adversarial": "pgd", "adversarial_steps": 7},
    {"adversarial": "trades"},
    {"adversarial": "fast"},
)
Step = Callable[[], Tensor]
Key = tuple[str, ...]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="bf16-mixed instead of float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--release", action="store_true", help="let the allocator return freed memory")
    parser.add_argument("--recipes", action="store_true", help="compare recipes instead, on the demo pair's network")
    parser.add_argument("--adversarial", action="store_true", help="time adversarial training instead, alone and joint")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if device.type == "cpu" and not options.release:
        keep_freed_memory()
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU"
    print(
        f"torch {torch.__version__}, timm {timm.__version__}, {machine}, {options.threads} thread(s), "
        f"{options.size} px, batch {options.batch}, {'bf16-mixed' if options.bf16 else 'float32'}"
        f"{', channels last' if options.channels_last else ''}{', memory released' if options.release else ''}\n"
    )
    if options.recipes:
        times = _times(
            {name: _module(DEMO_MODEL, options.size, name) for name in ("fel2022", "modern")},
            device,
            options,
            all_mapped=False,
        )
        print("| recipe | ms | ratio |\n|---|---|---|")
        for (name,), value in times.items():
            print(f"| {name} | {1000 * value:.0f} | {value / times['fel2022',]:.2f} |")
        return
    if options.adversarial:
        print("| network | adversarial | alone, ms | harmonizer | saliency at | ratio | of passes |")
        print("|---|---|---|---|---|---|---|")
        for model, attack in itertools.product(options.models or ADVERSARIAL_MODELS, ATTACKS):
            for row in _adversarial_rows(model, attack, device, options):
                print(row, flush=True)
        return
    print("| network | CE, ms | harmonized | 1 in 4 mapped | straightforward | memory | straightforward's |")
    print("|---|---|---|---|---|---|---|")
    for name in options.models or MODELS:
        print(_row(name, device, options), flush=True)


def _adversarial_rows(
    model: str, attack: dict[str, Any], device: torch.device, options: argparse.Namespace
) -> list[str]:
    """Measure the step of adversarial training alone and with each recipe's harmonizer."""
    places = ("adversarial",) if attack["adversarial"] == "fast" else ("clean", "adversarial")
    modules: dict[Key, HarmonizerModule] = {("", ""): _module(model, options.size, None, **attack)}
    for recipe in ("fel2022", "modern"):
        for place in places:
            modules[recipe, place] = _module(model, options.size, recipe, **attack, adversarial_saliency=place)
    times = _times(modules, device, options, all_mapped=True)
    passes = {key: step_passes(module.loss_settings, harmonize=bool(key[0])) for key, module in modules.items()}
    alone = "", ""
    name = f"{attack['adversarial']}, {modules[alone].loss_settings.attack_steps} step(s)"
    return [
        f"| {model} | {name} | {1000 * times[alone]:.0f} | {recipe} | {place} | "
        f"{times[recipe, place] / times[alone]:.2f} | {passes[recipe, place] / passes[alone]:.2f} |"
        for recipe, place in [*modules][1:]
    ]


def _module(model: str, size: int, recipe: str | None, **settings: Any) -> HarmonizerModule:  # noqa: ANN401 - of a loss
    """Build a network with a recipe's loss, or without a harmonizer."""
    torch.manual_seed(0)
    if recipe is not None:
        read = OmegaConf.to_container(OmegaConf.load(RECIPES / f"{recipe}.yaml"))
        assert isinstance(read, dict)
        settings |= {str(key): read[key] for key in ("saliency_reduction", "saliency_of", "gradient_penalty")}
    classes = [str(i) for i in range(10)]
    return HarmonizerModule(model, classes, size, harmonize=recipe is not None, **settings)


def _times(
    modules: dict[Key, HarmonizerModule], device: torch.device, options: argparse.Namespace, *, all_mapped: bool
) -> dict[Key, float]:
    """Return the median seconds of the training steps of modules, which alternate."""
    torch.manual_seed(0)
    shape = options.batch, options.size, options.size
    batch = Batch(
        torch.rand(shape[0], 3, *shape[1:], device=device),
        torch.randint(10, shape[:1], device=device),
        torch.rand(shape, device=device),
        torch.arange(options.batch, device=device) % 5 >= (0 if all_mapped else 1),
        [str(i) for i in range(options.batch)],
    )
    times: dict[Key, list[float]] = {key: [] for key in modules}
    for module in modules.values():
        module.log = lambda *args, **kwargs: None  # type: ignore[method-assign, assignment]
        module.to(device).train()
    clock = time.perf_counter if device.type == "cuda" or options.threads > 1 else time.process_time
    for _ in range(options.repeats):
        for key, module in modules.items():
            copied = batch._replace(images=batch.images.clone())
            start = clock()
            module.training_step(copied, 0).backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[key].append(clock() - start)
            module.zero_grad()
    return {key: statistics.median(measured) for key, measured in times.items()}


def _row(name: str, device: torch.device, options: argparse.Namespace) -> str:
    """Measure one network."""
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    sized = {"img_size": options.size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=CLASSES, **sized)
    model = PixelModel(backbone, (0.5,) * 3, (0.5,) * 3, second_order=True).to(device, memory_format=layout).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    images = torch.rand(options.batch, 3, options.size, options.size, device=device).to(memory_format=layout)
    batch = Batch(
        images,
        torch.randint(CLASSES, (options.batch,), device=device),
        torch.rand(options.batch, options.size, options.size, device=device),
        torch.ones(options.batch, dtype=torch.bool, device=device),
        [str(i) for i in range(options.batch)],
    )
    some = batch._replace(has_map=torch.arange(options.batch, device=device) % 4 == 0)
    steps: dict[str, Step] = {
        "plain": lambda: _plain(model, batch),  # by torch's own layers
        "harmonized": lambda: _harmonized(model, batch, joint=True),
        "some": lambda: _harmonized(model, some, joint=False),
        "straightforward": lambda: _straightforward(model, batch),
    }
    times: dict[str, list[float]] = {step: [] for step in steps}
    memory = dict.fromkeys(steps, 0.0)
    # Processor time, on which other work on the machine has little effect.
    clock = time.perf_counter if device.type == "cuda" or options.threads > 1 else time.process_time
    for turn in range(options.repeats + 1):
        for step, run in steps.items():
            with _memory(device, memory, step) if turn == 0 else contextlib.nullcontext():
                start = clock()
                with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
                    loss = run()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                if device.type == "cuda":
                    torch.cuda.synchronize()
            if turn:
                times[step].append(clock() - start)
    best = {step: min(measured) for step, measured in times.items()}
    ratios = [best[step] / best["plain"] for step in ("harmonized", "some", "straightforward")]
    spaces = [memory[step] / memory["plain"] for step in ("harmonized", "straightforward")]
    numbers = " | ".join(f"{value:.2f}" for value in ratios + spaces)
    return f"| {name} | {1000 * best['plain']:.0f} | {numbers} |"


def _plain(model: PixelModel, batch: Batch) -> Tensor:
    """Return the cross-entropy."""
    logits = model.backbone((batch.images.detach() - model.mean) / model.std)
    return F.cross_entropy(promoted(logits), batch.labels, label_smoothing=0.1)


def _harmonized(model: nn.Module, batch: Batch, *, joint: bool) -> Tensor:
    """Return this project's loss, as the module computes it."""
    batch = batch._replace(images=batch.images.detach())
    logits, gradient = logits_and_gradient(model, batch, joint=joint)
    with torch.autocast(batch.images.device.type, enabled=False):
        loss = F.cross_entropy(promoted(logits), batch.labels, label_smoothing=0.1)
        return loss + harmonizer_loss(reduce_channels(gradient, "mean"), batch.human_map, batch.has_map)


def _straightforward(model: PixelModel, batch: Batch) -> Tensor:
    """Return the loss of a straightforward double backprop, with torch's own derivatives."""
    images = batch.images.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        logits = model.backbone((images - model.mean) / model.std).float()
    score = logits.gather(1, batch.labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, images, create_graph=True)

    def cut(maps: Tensor) -> Tensor:
        mean, std = maps.mean((1, 2), keepdim=True), maps.std((1, 2), keepdim=True, correction=0)
        return ((maps - mean) / (std + 1e-5)).relu()

    saliency, human = cut(gradient.mean(1)), cut(batch.human_map)
    human = human / (human.amax((1, 2), keepdim=True) + 1e-6) * saliency.detach().amax((1, 2), keepdim=True)
    taps = saliency.new_tensor([1.0, 4, 6, 4, 1])
    kernel = (taps[:, None] * taps / 256)[None, None]
    loss, levels = F.cross_entropy(logits, batch.labels, label_smoothing=0.1), 5
    for level in range(levels):
        loss = loss + (saliency - human).square().mean() / levels
        if level < levels - 1:
            saliency, human = (F.conv2d(m[:, None], kernel, stride=2, padding=2)[:, 0] for m in (saliency, human))
    return loss


@contextlib.contextmanager
def _memory(device: torch.device, found: dict[str, float], step: str) -> Iterator[None]:
    """Measure a step's memory: its peak on a GPU; on a CPU the bytes kept for backward passes, each storage once."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        yield
        found[step] = torch.cuda.max_memory_allocated()
        return
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        held.append(tensor)  # so that no address is used twice
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield
    found[step] = sum(kept.values())


if __name__ == "__main__":
    main()
