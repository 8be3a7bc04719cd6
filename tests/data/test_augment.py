"""Augmentation: torchvision's crop boxes, the same geometry for image and map, colour changes in the image only."""

import io
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from shard_data import write_folder
from torchvision.transforms import RandomResizedCrop

from harmonizer.data import image as images
from harmonizer.data.augment import mix_pairs, random_box, rotate
from harmonizer.data.batch import Batch
from harmonizer.data.dataset import SampleIndex, ShardDataset
from harmonizer.data.image import decode_rgb
from harmonizer.data.transforms import JointTransform

VALUES = np.random.default_rng(0).integers(0, 256, (60, 45), dtype=np.uint8)
GREY, COLOUR = Image.fromarray(VALUES), Image.fromarray(np.stack([VALUES] * 3, 2))


def test_crop_boxes_equal_torchvisions():
    for seed, (width, height) in enumerate(product((1, 30, 300), repeat=2)):
        for scale, ratio in (((0.08, 1.0), (3 / 4, 4 / 3)), ((0.9, 1.0), (1.0, 1.0)), ((1.0, 1.0), (3.0, 4.0))):
            torch.manual_seed(seed)
            picture = Image.new("L", (width, height))
            top, left, h, w = RandomResizedCrop.get_params(picture, list(scale), list(ratio))
            low, high = torch.tensor(ratio).log().tolist()
            box = random_box(width, height, scale, (low, high), torch.Generator().manual_seed(seed))
            assert box == (left, top, left + w, top + h)


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": (0.2, 0.9), "flip": 0.5},
        {"scale": (0.2, 0.9), "flip": 0.5, "interpolation": "bilinear", "rotation": 30},
        {"scale": (1.0, 1.0), "ratio": (0.75, 0.75), "rotation": 180},
        {"flip": 0.5, "rotation": 15, "crop_ratio": 0.8},
    ],
)
@pytest.mark.parametrize("size", [24, 45, 70])
def test_image_and_map_get_the_same_geometry(settings, size):
    transform = JointTransform(size, **settings)
    results = [transform(COLOUR, GREY, seed=seed) for seed in range(25)]
    for image, human in results:
        assert (image[0] - human).abs().max() < 2.01 / 255  # the image is rounded to whole grey levels twice
        assert (image[0] - human).abs().mean() < 0.5 / 255
    assert len({float(human.sum()) for _, human in results}) == 25


def test_a_map_of_another_size_stays_aligned_with_its_image():
    rows, columns = np.mgrid[:180, :180]
    smooth = (120 + 60 * np.sin(rows / 17) + 50 * np.cos(columns / 13)).astype(np.uint8)
    colour = Image.fromarray(np.stack([smooth] * 3, 2))
    small = Image.fromarray(smooth).resize((120, 120), Image.Resampling.BILINEAR)
    transform = JointTransform(64, scale=(0.3, 0.8), flip=0.5)
    for seed in range(20):
        image, human = transform(colour, small, seed=seed)
        assert (image[0] - human)[2:-2, 2:-2].abs().max() < 4 / 255


@pytest.mark.parametrize(("interpolation", "largest"), [("bilinear", 1), ("bicubic", 2)])
def test_the_fast_resize_equals_pillows_up_to_rounding(interpolation, largest):
    transform = JointTransform(50, scale=(0.3, 1.0), interpolation=interpolation)
    low, high = transform.log_ratio
    # Low contrast for bicubic: overshoot beyond black and white is clipped differently.
    dull = Image.fromarray(np.asarray(COLOUR) // 4 + 96)
    picture = COLOUR if interpolation == "bilinear" else dull
    for seed in range(30):
        image, _ = transform(picture, None, seed=seed)
        box = random_box(*picture.size, (0.3, 1.0), (low, high), torch.Generator().manual_seed(seed))
        resized = picture.crop(box).resize((50, 50), getattr(Image.Resampling, interpolation.upper()))
        theirs = np.asarray(resized).transpose(2, 0, 1).astype(int)
        assert np.abs((image.numpy() * 255).round().astype(int) - theirs).max() <= largest


def test_rotation_by_a_right_angle_is_exact():
    image, human = torch.rand(3, 8, 8), torch.rand(8, 8)
    turned, map_turned = rotate(image, human, 90)
    torch.testing.assert_close(turned, image.rot90(1, (1, 2)), atol=1e-5, rtol=0)
    torch.testing.assert_close(map_turned, human.rot90(1), atol=1e-5, rtol=0)
    image, human = torch.rand(3, 6, 12), torch.rand(6, 12)
    turned, map_turned = rotate(image, human, 180)
    torch.testing.assert_close(turned, image.flip(1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(map_turned, human.flip(0, 1), atol=1e-5, rtol=0)


def test_jitter_changes_the_image_but_not_the_map():
    picture = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    plain, jittered = JointTransform(40, flip=0.5), JointTransform(40, flip=0.5, jitter=0.4)
    grey, sums = Image.fromarray(picture[..., 0]), set()
    for seed in range(10):
        (image, human), (changed, same) = (t(Image.fromarray(picture), grey, seed=seed) for t in (plain, jittered))
        assert human.equal(same)
        assert float(changed.min()) >= 0 and float(changed.max()) <= 1
        assert (image - changed).abs().max() > 0.02
        sums.add(float(changed.sum()))
    assert len(sums) == 10


def test_mixup_mixes_images_maps_and_labels_alike():
    torch.manual_seed(0)
    values = torch.rand(7, 6, 6)
    has_map = torch.tensor([True, False, True, True, False, False, True])
    human = values * has_map[:, None, None]
    batch = Batch(values[:, None].repeat(1, 3, 1, 1), torch.arange(7), human, has_map, [f"k{i}" for i in range(7)])
    mixed = mix_pairs(batch, 0.4, range(7))
    assert mixed.has_map.equal(has_map) and mixed.keys == batch.keys and mixed.labels.equal(batch.labels)
    for i, (partner, share) in enumerate(zip(mixed.mixup_labels.tolist(), mixed.mixup_lam.tolist(), strict=True)):
        assert partner != i and has_map[partner] == has_map[i]
        expected = share * values[i] + (1 - share) * values[partner]
        torch.testing.assert_close(mixed.images[i, 1], expected)
        torch.testing.assert_close(mixed.human_map[i], expected if has_map[i] else torch.zeros(6, 6))
    assert sorted(mixed.mixup_labels.tolist()) == list(range(7))
    assert mix_pairs(batch, 0.4, range(7)).mixup_lam.equal(mixed.mixup_lam)
    many = Batch(*[part[:1].repeat(4000, *[1] * (part.ndim - 1)) for part in batch[:4]], [])
    shares = mix_pairs(many, 0.4, range(4000)).mixup_lam
    assert float(shares.var()) == pytest.approx(0.4 * 0.4 / (0.8**2 * 1.8), rel=0.1)  # of Beta(0.4, 0.4)


def test_a_dataset_with_mixup_loads_mixed_batches(tmp_path):
    folder = write_folder(tmp_path / "shards", train=12) / "train"
    plain, mixed = (ShardDataset(folder, JointTransform(32, flip=0.5), mixup=alpha) for alpha in (0.0, 0.5))
    positions = [SampleIndex(number, 50 + number) for number in (3, 1, 5, 8, 0)]
    before, after = plain.__getitems__(positions).batch, mixed.__getitems__(positions).batch
    assert before.mixup_labels is None and before.mixup_lam is None
    share = after.mixup_lam[1]
    candidates = [share * before.images[1] + (1 - share) * before.images[i] for i in range(5)]
    (partner,) = (i for i in range(5) if torch.allclose(after.images[1], candidates[i], atol=1e-6))
    assert before.labels[partner] == after.mixup_labels[1]
    assert before.has_map[partner] == after.has_map[1]


KINDS = [
    {"format": "jpeg", "quality": quality, "subsampling": sampling, "progressive": progressive}
    for quality, sampling, progressive in product((30, 75, 100), (0, 1, 2), (False, True))
]


@pytest.mark.parametrize("library", ["simplejpeg", "Pillow"])
def test_decoded_pixels_equal_pillows(library, monkeypatch):
    if library == "Pillow":
        monkeypatch.setattr(images, "_is_plain_jpeg", lambda encoded: False)
    rng = np.random.default_rng(0)
    for number, settings in enumerate([*KINDS, {"format": "png"}, {"format": "webp", "lossless": True}]):
        for mode in ("RGB", "L", "CMYK", "P", "RGBA"):
            height, width = rng.integers(1, 70, 2)
            values = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            image = Image.fromarray(values).resize((width, height)).convert(mode)
            buffer = io.BytesIO()
            try:
                image.save(buffer, **settings)
            except OSError:
                continue  # the format does not support this mode
            expected = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
            np.testing.assert_array_equal(decode_rgb(buffer.getvalue()), expected, err_msg=f"{number} {mode}")
    for cut in (20, 200, len(buffer.getvalue()) // 2):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "jpeg")
        with pytest.raises(ValueError, match=r"truncated|not an image|Truncated|broken"):
            decode_rgb(buffer.getvalue()[:cut])
