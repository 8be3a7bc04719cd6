"""Samples per second of one core, from shard to batch, against plain PIL decoding: ``python -m benchmarks.data``.

Rates are for one thread, in processor time, on which other work on the machine has little effect. Each is the best of
several alternating rounds.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import kornia
import kornia.augmentation as K
import numpy as np
import PIL
import torch
import torchvision
from kornia.constants import DataKey
from PIL import Image
from torch.utils.data import default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from harmonizer.data import prepare_human_map
from harmonizer.data.dataset import SampleIndex, ShardDataset
from harmonizer.data.image import decode_image, decode_rgb
from harmonizer.data.loader import TrainLoader
from harmonizer.data.mixture import Mixture, Part
from harmonizer.data.sampling import TrainBatches
from harmonizer.data.shards.manifest import Manifest, write_manifest
from harmonizer.data.shards.reader import ShardFolder
from harmonizer.data.shards.writer import HEATMAP, shard_name, write_shard
from harmonizer.data.transforms import JointTransform, map_values

SIZE = 224  # pixels of a batch's images
BATCH = 32
CROP = (0.08, 1.0)
Run = Callable[[], object]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--pixels", type=int, default=256, help="side of a stored image")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, Pillow {PIL.__version__}, ", end="")
    print(f"kornia {kornia.__version__}; images of {options.pixels} pixels, batches of {BATCH} at {SIZE}\n")
    with tempfile.TemporaryDirectory() as folder:
        for share in (0.0, 0.2, 1.0):
            place = make_shards(Path(folder, f"{share}"), options.images, options.pixels, share)
            for interpolation in ("bilinear", "bicubic"):
                print(f"### {share:.0%} with maps, {interpolation}\n")
                show(stages(place, interpolation), options.images, options.rounds)
        print("### Decoding a JPEG\n")
        show(decoders(place), options.images, options.rounds)
        print("### Random crop and flip of image and map, from decoded images to tensors\n")
        show(augmentations(place), options.images, options.rounds)


def stages(place: Path, interpolation: str) -> dict[str, Run]:
    """Return the stages to measure on a folder: the parts of the pipeline, and the whole."""
    folder, transform = ShardFolder(place), JointTransform(SIZE, scale=CROP, flip=0.5, interpolation=interpolation)
    dataset, numbers = ShardDataset([folder], transform), range(len(folder))
    encoded = [folder.read(number).members for number in numbers]
    decoded = [(decode_rgb(e["jpg"]), decode_image(e[HEATMAP]) if HEATMAP in e else None) for e in encoded]
    pixels, importance = torch.empty(3, SIZE, SIZE), torch.zeros(SIZE, SIZE)
    items = [dataset[SampleIndex(number, 0)] for number in range(min(BATCH, len(folder)))]
    batches = TrainBatches(Mixture([Part([len(folder)])], seed=0), BATCH, seed=0)
    loader = TrainLoader(dataset, batches)
    return {
        "PIL decoding": lambda: [
            pil_decode(members[name]) for members in encoded for name in ("jpg", HEATMAP) if name in members
        ],
        "PIL decoding to arrays": lambda: [
            np.asarray(pil_decode(members[name])) for members in encoded for name in ("jpg", HEATMAP) if name in members
        ],
        "PIL decoding of the images alone": lambda: [pil_decode(members["jpg"]) for members in encoded],
        "read": lambda: [folder.read(number) for number in numbers],
        "decode": lambda: [
            (decode_rgb if name == "jpg" else decode_image)(members[name])
            for members in encoded
            for name in ("jpg", HEATMAP)
            if name in members
        ],
        "augment": lambda: [
            transform.write(*pair, seed=seed, pixels=pixels, importance=importance) for seed, pair in enumerate(decoded)
        ],
        "collate (copy; the pipeline writes in place)": lambda: [
            default_collate(items) for _ in range(0, len(folder), len(items))
        ],
        "whole pipeline": lambda: [None for _ in loader],
    }


def decoders(place: Path) -> dict[str, Run]:
    """Return the decoders."""
    folder = ShardFolder(place)
    encoded = [folder.read(number).members["jpg"] for number in range(len(folder))]
    runs: dict[str, Run] = {"PIL": lambda: [pil_decode(content) for content in encoded]}
    try:
        import simplejpeg
    except ImportError:
        return runs
    return runs | {"simplejpeg": lambda: [simplejpeg.decode_jpeg(content) for content in encoded]}


def augmentations(place: Path) -> dict[str, Run]:
    """Return the ways to crop and flip image and map together."""
    folder = ShardFolder(place)
    encoded = [folder.read(number).members for number in range(len(folder))]
    pairs = [(decode_image(members["jpg"]), decode_image(members[HEATMAP])) for members in encoded]
    ours = JointTransform(SIZE, scale=CROP, flip=0.5)
    joint = v2.Compose([v2.RandomResizedCrop(SIZE, CROP, antialias=True), v2.RandomHorizontalFlip()])

    def torchvision_v2() -> None:
        for image, human in pairs:
            grey = torch.from_numpy(map_values(human))[None]
            grey = v2.functional.resize(grey, list(image.size[::-1]), antialias=True)
            pixels, importance = joint(tv_tensors.Image(image), tv_tensors.Image(grey))
            v2.functional.to_dtype(pixels, torch.float32, scale=True), importance.contiguous()

    kornia_joint = K.AugmentationSequential(
        K.RandomResizedCrop((SIZE, SIZE), CROP, cropping_mode="resample"),
        K.RandomHorizontalFlip(),
        data_keys=["input", "mask"],
        extra_args={DataKey.MASK: {"resample": "bilinear", "align_corners": True}},
    )

    def kornia_batches() -> None:
        for start in range(0, len(pairs), BATCH):
            part = pairs[start : start + BATCH]
            images = torch.stack([torch.from_numpy(np.array(image)) for image, _ in part]).permute(0, 3, 1, 2) / 255
            maps = torch.stack([torch.from_numpy(map_values(human)) for _, human in part])[:, None]
            maps = torch.nn.functional.interpolate(maps, images.shape[2:], mode="bilinear")
            kornia_joint(images, maps)

    return {
        "JointTransform (Pillow and torch)": lambda: [ours(*pair, seed=seed) for seed, pair in enumerate(pairs)],
        "torchvision v2": torchvision_v2,
        "kornia, on the batch": kornia_batches,
    }


def show(runs: dict[str, Run], samples: int, rounds: int) -> None:
    """Measure, and print a table with each rate and its ratio to plain decoding."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    rates = {name: samples / min(times) for name, times in seconds.items()}
    first = next(iter(rates.values()))
    print(f"| | samples/s | ratio to {next(iter(rates))} |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.0f} | {rate / first:.2f} |")
    print(flush=True)


def pil_decode(content: bytes) -> Image.Image:
    """Decode an image with Pillow, as most loaders do."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image.convert("RGB") if image.format == "JPEG" else image


def make_shards(folder: Path, images: int, pixels: int, share: float) -> Path:
    """Write a folder of generated images, a share of them with prepared maps of 224 pixels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    samples = (draw(rng, f"{number:06d}", pixels, with_map=number < share * images) for number in range(images))
    shard = write_shard(folder / shard_name(0), samples)
    write_manifest(folder, Manifest(tuple(map(str, range(1000))), "", (shard,)))
    return folder


def draw(rng: np.random.Generator, key: str, pixels: int, *, with_map: bool) -> dict[str, object]:
    """Draw noise whose amplitude falls with frequency, as in photographs."""
    image = np.zeros((pixels, pixels, 3))
    for side, weight in ((4, 60), (16, 40), (64, 25), (pixels, 16)):
        noise = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        image += weight * (np.asarray(noise.resize((pixels, pixels), Image.Resampling.BICUBIC)) / 127.5 - 1)
    sample: dict[str, object] = {"__key__": key, "jpg": encode(np.clip(image + 128, 0, 255).astype(np.uint8), "jpeg")}
    sample["cls"] = int(rng.integers(1000))
    if with_map:
        spots = Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).resize((256, 256))
        human = prepare_human_map(np.asarray(spots, dtype=np.float64))
        sample[HEATMAP] = encode(np.rint(human / 255 * 65535).astype(np.uint16), "png")
    return sample


def encode(values: np.ndarray, kind: str) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind, **({"quality": 90} if kind == "jpeg" else {}))
    return buffer.getvalue()


if __name__ == "__main__":
    main()
