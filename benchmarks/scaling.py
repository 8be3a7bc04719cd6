"""Measure how a harmonized training scales with the number of processes: ``python -m benchmarks.scaling``.

Three tables: weak scaling, measured on all devices (processes on a CPU: ``--processes``); a calculation for more
processes; and the loader's plan for many ranks.

In the calculation, n processes reduce the gradients of P parameters in a ring: each sends and receives
2 (n - 1) / n x 4 P bytes per step, at the bandwidth W of the slowest link. Double backprop does not change these bytes,
but the step takes longer. Without overlap with the backward pass, the reduction's share of a step of t seconds is
c / (t + c) with c = 8 P (n - 1) / (n W).
"""

import argparse
import itertools
import os
import platform
import time

import timm
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from harmonizer.data.batch import Batch
from harmonizer.data.sampling import TrainBatches
from harmonizer.functional import harmonizer_loss
from harmonizer.functional.saliency import reduce_channels
from harmonizer.models import PixelModel
from harmonizer.training.double_backward import logits_and_gradient
from harmonizer.training.precision import promoted

CLASSES = 1000
LINKS = {"25 GB/s (Ethernet 200)": 25e9, "450 GB/s (NVLink 4)": 450e9}  # bytes a second in each direction


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet18", "vit_tiny_patch16_224"])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16, help="samples per process")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--processes", type=int, default=torch.cuda.device_count() or min(os.cpu_count() or 1, 2))
    parser.add_argument("--ranks", type=int, default=64)
    options = parser.parse_args()
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU, one thread each"
    print(f"torch {torch.__version__}, {place}, {options.size} px, batch {options.batch} per process\n")
    print("| network | processes | ms per step | samples/s | efficiency |\n|---|---|---|---|---|")
    alone: dict[str, float] = {}
    for name in options.models:
        counts = sorted({1, *(2**k for k in range(1, 10) if 2**k <= options.processes), options.processes})
        for count in counts:
            seconds = _measured(name, count, options)
            alone.setdefault(name, seconds)
            rate = count * options.batch / seconds
            print(f"| {name} | {count} | {1000 * seconds:.0f} | {rate:.1f} | {alone[name] / seconds:.0%} |", flush=True)
    print("\n| network | MB reduced per step | link | n | efficiency without overlap |\n|---|---|---|---|---|")
    for name, (link, bandwidth), count in itertools.product(options.models, LINKS.items(), (8, 64)):
        size = 4 * sum(parameter.numel() for parameter in _network(name, options.size).parameters())
        cost = 2 * (count - 1) / count * size / bandwidth
        print(f"| {name} | {size / 1e6:.0f} | {link} | {count} | {alone[name] / (alone[name] + cost):.1%} |")
    print(f"\n{_planned(options.ranks)}")


def _network(name: str, size: int) -> PixelModel:
    sized = {"img_size": size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    backbone = timm.create_model(name, num_classes=CLASSES, **sized)
    return PixelModel(backbone, (0.5,) * 3, (0.5,) * 3, second_order=True)


def _measured(name: str, count: int, options: argparse.Namespace) -> float:
    """Return the seconds per step on ``count`` processes: the slowest process's median."""
    with mp.Manager() as manager:
        found = manager.dict()
        port = 20_000 + os.getpid() % 20_000
        mp.spawn(_train, (count, port, name, options.size, options.batch, options.steps, found), nprocs=count)
        return max(found.values())


def _train(
    rank: int, count: int, port: int, name: str, size: int, batch_size: int, steps: int, found: dict[int, float]
) -> None:
    """Run a few harmonized steps in one process of a group."""
    torch.set_num_threads(1)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    dist.init_process_group("nccl" if cuda else "gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    torch.manual_seed(0)
    model = _network(name, size).to(device).train()
    parallel = DistributedDataParallel(model, device_ids=[rank] if cuda else None)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    images = torch.rand(batch_size, 3, size, size, device=device)
    batch = Batch(
        images,
        torch.randint(CLASSES, (batch_size,), device=device),
        torch.rand(batch_size, size, size, device=device),
        torch.ones(batch_size, dtype=torch.bool, device=device),
        [str(i) for i in range(batch_size)],
    )
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        logits, gradient = logits_and_gradient(parallel, batch._replace(images=images.detach()), joint=True)
        loss = F.cross_entropy(promoted(logits), batch.labels, label_smoothing=0.1)
        loss = loss + harmonizer_loss(reduce_channels(gradient, "mean"), batch.human_map, batch.has_map)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    found[rank] = sorted(seconds[2:])[steps // 2]
    dist.destroy_process_group()


def _planned(ranks: int, samples: int = 1_281_167, batch_size: int = 32) -> str:
    """Plan an epoch of ImageNet's size for many ranks, check that no sample is shared, and describe the plan."""
    start = time.process_time()
    seen = torch.zeros(samples, dtype=torch.int8)
    steps = 0
    for rank in range(ranks):
        batches = TrainBatches(samples, batch_size, seed=0, rank=rank, world=ranks)
        mine = torch.tensor([position[0] for batch in batches for position in batch])
        seen[mine] += 1
        steps = len(batches)
    seconds = time.process_time() - start
    if int(seen.max()) != 1 or int(seen.sum()) != ranks * steps * batch_size:
        raise AssertionError("ranks share samples")
    return (
        f"{ranks} ranks, {samples:,} samples: {steps} steps of {batch_size} on each, no sample on two ranks, "
        f"{samples - int(seen.sum())} left over; planning takes {seconds / ranks:.2f} s per rank and epoch"
    )


if __name__ == "__main__":
    main()
