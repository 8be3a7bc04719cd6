"""Compare the attacks with the peers': ``python -m benchmarks.attacks [--images N] [--large | --protocol]``.

Needs foolbox, adv-lib and torchattacks. All attacks run on the same images, on which no setting was tuned. Success is
checked in float32, image by image. An image that an attack missed counts with the largest possible norm within [0,1].
Ratios are to the smallest radius that any attack of the table found.
"""

import argparse
import copy
import platform
import resource
import time

import timm
import torch
from torch import Tensor, nn

from benchmarks.networks import draw_images, small_cnn, strided_cnn, train
from benchmarks.peers import PEERS, Peer
from harmonizer.attacks import minimal_radius
from harmonizer.fast.cpu.malloc import keep_freed_memory

OURS = ("linsley2023", "pgd", "ddn", "ddn_full")
TEST_SEED = 4  # seed of the images; settings were chosen on those of seed 3


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--large", action="store_true", help="print the table at 224 pixels and 1000 classes instead")
    parser.add_argument("--protocol", action="store_true", help="compare batched linsley2023 with the loop instead")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="for --large")
    parser.add_argument("--models", nargs="+", default=["resnet50", "vit_small_patch16_224"], help="for --large")
    parser.add_argument("--batch", type=int, help="most images in a pass with --large; default: as many as fit")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cuda = options.large and torch.device(options.device).type == "cuda"
    machine = (
        torch.cuda.get_device_name(options.device) if cuda else f"{platform.machine()} CPU, {options.threads} thread(s)"
    )
    print(f"torch {torch.__version__}, {machine}")
    if options.large:
        # As in an attack; otherwise the peers and the plain passes would round differently and run faster.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            for name in options.models:
                large_table(name, options.images, torch.device(options.device), options.batch)
        return
    if options.protocol:
        protocol_table(options.images)
        return
    for title, model in zip(("plain", "adversarially trained"), train(), strict=True):
        small_table(title, model, options.images)


def small_table(title: str, model: nn.Module, count: int) -> None:
    """Print radius, success, passes and time of every attack on correctly classified images."""
    images, labels = draw_images(2 * count, seed=TEST_SEED)
    with torch.no_grad():
        answers = model(images).argmax(1)
    accuracy = (answers == labels).float().mean()
    images, labels = images[answers == labels][:count], labels[answers == labels][:count]
    attacks = {f"harmonizer {name}": _ours(name) for name in OURS} | dict(PEERS)
    rows = {name: _measure(model, images, labels, attack) for name, attack in attacks.items()}
    radii = torch.stack([row[0] for row in rows.values()])
    best = radii.amin(0)
    print(f"\n{title}: accuracy {accuracy:.3f}, {len(images)} images, best known mean radius {best.mean():.4f}\n")
    print("| attack | mean radius | mean ratio | worst ratio | fooled | F | B | s |\n|---|---|---|---|---|---|---|---|")
    for name, (radius, fooled, forwards, backwards, seconds) in rows.items():
        ratio = radius / best
        print(
            f"| {name} | {radius.mean():.4f} | {ratio.mean():.3f} | {ratio.max():.2f} | {fooled.float().mean():.3f} | "
            f"{forwards:.0f} | {backwards:.0f} | {seconds:.1f} |",
            flush=True,
        )


def large_table(name: str, count: int, device: torch.device, batch: int | None, *, looped: int = 2) -> None:
    """Print time and memory at 224 pixels and 1000 classes, on a network with random weights.

    The share is the time of the attack's passes alone, at torch's rates without an attack at the best batch size up to
    ``count``, over the attack's time. The published loop runs on the first ``looped`` images only.
    """
    keep_freed_memory()
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=1000).eval().to(device)
    images = draw_images(count, seed=TEST_SEED, size=224)[0].to(device)
    with torch.no_grad():
        labels = torch.cat([model(part).argmax(1) for part in images.split(batch or 32)])
    attacks = {f"harmonizer {attack}": _ours(attack, batch) for attack in ("linsley2023", "pgd", "ddn")}
    loop, peer = "linsley2023, one by one", "adv-lib DDN 100"
    attacks |= {loop: PEERS[loop], peer: _in_parts(PEERS[peer], batch or 64)}  # the peer has no batch size
    if device.type == "cuda":  # kernels are loaded at their first call
        minimal_radius(model, images[:2], labels[:2], attack="linsley2023")
    rows = {}
    for title, attack in attacks.items():
        part = slice(0, looped if title == loop else count)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        radius, _, forwards, backwards, seconds = _measure(model, images[part], labels[part], attack)
        peak = (  # on a CPU, that of the process so far
            torch.cuda.max_memory_allocated(device) / 2**30
            if device.type == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        )
        rows[title] = radius.mean(), forwards, backwards, seconds / len(radius), peak
    forward, both = _plain_rates(model, images)
    rates = f"without an attack {forward:.1f} images/s forward, {both:.1f} forward and backward"
    print(f"\n{name}, random weights: {count} images (the loop: {min(looped, count)}); {rates}\n")
    print("| attack | mean radius | F | B | s per image | gradients/s | share | 1000 images, min | peak GiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for title, (mean, forwards, backwards, seconds, peak) in rows.items():
        share = (backwards / both + (forwards - backwards) / forward) / seconds
        print(
            f"| {title} | {mean:.4f} | {forwards:.0f} | {backwards:.0f} | {seconds:.3g} | {backwards / seconds:.1f} | "
            f"{share:.2f} | {1000 * seconds / 60:.1f} | {peak:.1f} |",
            flush=True,
        )


def _plain_rates(model: nn.Module, images: Tensor, *, repeats: int = 3) -> tuple[float, float]:
    """Return images per second, forward alone and with the images' gradient, each at the best batch size."""
    model = copy.deepcopy(model).to(memory_format=torch.channels_last).requires_grad_(False)
    best = {False: 0.0, True: 0.0}
    rows, most = 1, len(images) if images.device.type == "cuda" else min(len(images), 64)
    while rows <= most:
        leaf = images[:rows].clone(memory_format=torch.channels_last)
        for gradient in best:
            leaf.requires_grad_(gradient)
            for _ in range(repeats):
                start = _now(images)
                try:
                    logits = model(leaf)
                    if gradient:
                        torch.autograd.grad(logits.sum(), leaf)
                except torch.OutOfMemoryError:
                    return best[False], best[True]
                best[gradient] = max(best[gradient], rows / (_now(images) - start))
        rows *= 2
    return best[False], best[True]


def protocol_table(count: int, *, looped: int = 16, repeats: int = 3) -> None:
    """Print the speed of the batched protocol as a ratio to the published loop at batch 1.

    The two alternate; the loop runs on the first ``looped`` images only, and times per image are the best of
    ``repeats``. The limit is the ratio for the protocol's passes in torch without the attack: the possible gain of a
    batch depends on the network, and on the machine's speed at batch 1. As in evaluate.py, the allocator keeps freed
    memory.
    """
    keep_freed_memory()
    torch.manual_seed(0)
    networks = {
        "CNN of the tables above, 76,000 parameters, 32 px": (small_cnn().eval(), 32),
        "CNN that halves early, 76,000 parameters, 32 px": (strided_cnn().eval(), 32),
        "resnet18, 64 px": (timm.create_model("resnet18", num_classes=10).eval(), 64),
    }
    print(f"\n{count} images, random weights\n\n| network | ms per image | the loop's | ratio | limit | same radii |")
    print("|---|---|---|---|---|---|")
    for name, (model, size) in networks.items():
        images, _ = draw_images(count, seed=TEST_SEED, size=size)
        with torch.no_grad():
            labels = model(images).argmax(1)
        ours, loop, limit = [], [], []
        for _ in range(repeats):
            batched, *_, seconds = _measure(model, images, labels, _ours("linsley2023"))
            ours.append(1000 * seconds / count)
            part = slice(0, looped)
            alone, *_, seconds = _measure(model, images[part], labels[part], PEERS["linsley2023, one by one"])
            loop.append(1000 * seconds / looped)
            limit.append(1000 * _passes_alone(model, images) / count)
        same = torch.isclose(batched[part], alone, rtol=1e-3).double().mean()
        ratio, most = min(loop) / min(ours), min(loop) / min(limit)
        print(f"| {name} | {min(ours):.1f} | {min(loop):.0f} | {ratio:.1f} | {most:.1f} | {same:.0%} |", flush=True)


def _passes_alone(model: nn.Module, images: Tensor, rows: int = 64) -> float:
    """Return the processor time of 28 forward and 19 input-backward passes of each image, in batches of ``rows``."""
    model = copy.deepcopy(model).to(memory_format=torch.channels_last).requires_grad_(False)
    start = time.process_time()
    for part in images.contiguous(memory_format=torch.channels_last).split(rows):
        for number in range(28):
            leaf = part.clone(memory_format=torch.channels_last).requires_grad_(number < 19)
            logits = model(leaf)
            if number < 19:
                torch.autograd.grad(logits.sum(), leaf)
    return time.process_time() - start


def _ours(name: str, batch: int | None = None) -> Peer:
    return lambda model, images, labels: (
        minimal_radius(model, images, labels, attack=name, batch_size=batch).adversarial
    )


def _in_parts(attack: Peer, rows: int) -> Peer:
    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        parts = zip(images.split(rows), labels.split(rows), strict=True)
        return torch.cat([attack(model, *part).detach() for part in parts])

    return run


def _now(images: Tensor) -> float:
    """Return the time once the images' device has finished all work.

    On one thread of a CPU it is processor time, on which other work on the machine has little effect.
    """
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return time.process_time() if images.device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def _measure(
    model: nn.Module, images: Tensor, labels: Tensor, attack: Peer
) -> tuple[Tensor, Tensor, float, float, float]:
    """Return radii (N,), success (N,), checked image by image, passes per image, and seconds."""
    passes = {"forward": 0, "backward": 0}

    def count(module: nn.Module, inputs: tuple[Tensor], logits: Tensor) -> None:
        passes["forward"] += len(logits)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: passes.__setitem__("backward", passes["backward"] + len(gradient)))

    torch.manual_seed(0)
    handle = model.register_forward_hook(count)
    start = _now(images)
    adversarial = attack(model, images, labels).detach()
    seconds = _now(images) - start
    handle.remove()
    with torch.no_grad():
        answers = torch.cat([model(image[None]).argmax(1) for image in adversarial])
    inside = ((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(1)
    fooled = (answers != labels) & inside
    radius = (adversarial.double() - images.double()).flatten(1).norm(dim=1)
    worst = torch.maximum(images, 1 - images).double().flatten(1).norm(dim=1)
    return (
        torch.where(fooled, radius, worst),
        fooled,
        passes["forward"] / len(images),
        passes["backward"] / len(images),
        seconds,
    )


if __name__ == "__main__":
    main()
