"""Samples are read from shards unchanged, image and map are transformed together, and damage is an error."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from shard_data import CLASSES, png, sample

from harmonizer.data.dataset import SampleIndex, ShardDataset
from harmonizer.data.shards.writer import write_shards
from harmonizer.data.transforms import JointTransform

PLAIN = JointTransform(32)


def test_samples_are_read_as_they_were_written(folder):
    dataset = ShardDataset(folder, PLAIN)
    assert len(dataset) == 20
    for index in (0, 7, 8, 19):
        item, written = dataset[SampleIndex(index, 0)], sample(index, with_map=index % 5 != 0)
        assert (item.key, item.label, item.has_map) == (written["__key__"], written["cls"], "heatmap.png" in written)
        picture = np.asarray(Image.open(io.BytesIO(written["png"])))
        np.testing.assert_array_equal((item.image * 255).round().byte().permute(1, 2, 0), picture)
        if item.has_map:
            values = np.asarray(Image.open(io.BytesIO(written["heatmap.png"])))
            np.testing.assert_allclose(item.human_map, values / 255, atol=1e-7)
        else:
            assert not item.human_map.any()
    batch = dataset.__getitems__([SampleIndex(i, 0) for i in range(3)]).batch
    assert batch.images.shape == (3, 3, 32, 32)
    assert batch.has_map.tolist() == [False, True, True]


def test_sixteen_bit_maps_keep_their_depth(tmp_path):
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    stored = sample(1, 64) | {"heatmap.png": png(values)}
    write_shards([stored], tmp_path / "s", classes=CLASSES, maps="")
    human = ShardDataset(tmp_path / "s", JointTransform(64))[SampleIndex(0, 0)].human_map
    np.testing.assert_allclose(human, values / 65535, atol=1e-6)


def test_a_map_of_another_size_covers_the_same_image(tmp_path):
    # As in ClickMe: images of 256 pixels, prepared maps of 224.
    rows, columns = np.mgrid[:224, :224]
    stored = sample(1, 256) | {"heatmap.png": png((rows // 2 + columns // 4).astype(np.uint8))}
    write_shards([stored], tmp_path / "s", classes=CLASSES, maps="")
    human = ShardDataset(tmp_path / "s", JointTransform(256))[SampleIndex(0, 0)].human_map
    rows, columns = (np.mgrid[:256, :256] + 0.5) * 224 / 256 - 0.5
    expected = (rows / 2 + columns / 4) / 255
    np.testing.assert_allclose(human[4:-4, 4:-4], expected[4:-4, 4:-4], atol=1.5 / 255)


def test_image_and_map_move_together_without_the_global_rng():
    values = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    grey, colour = Image.fromarray(values), Image.fromarray(np.stack([values] * 3, 2))
    transform = JointTransform(24, scale=(0.2, 0.9), flip=0.5)
    before = torch.get_rng_state()
    results = [transform(colour, grey, seed=seed) for seed in range(20)]
    assert torch.equal(before, torch.get_rng_state())
    for image, human in results:
        torch.testing.assert_close(image[0], human, atol=1.01 / 255, rtol=0)  # the image is resampled in 8 bits
    again = transform(colour, grey, seed=3)
    assert torch.equal(again[0], results[3][0])
    assert len({float(image.sum()) for image, _ in results}) == 20
    flips = [JointTransform(40, flip=0.5)(colour, grey, seed=seed)[1][0, 0].item() for seed in range(40)]
    assert set(flips) == {np.float32(values[0, 5] / 255), np.float32(values[0, 44] / 255)}


def test_rotation_turns_image_and_map_about_the_centre():
    values = np.zeros((41, 41), dtype=np.uint8)
    values[8:11, 19:22] = 255  # a mark 11 pixels above the centre
    grey, colour = Image.fromarray(values), Image.fromarray(np.stack([values] * 3, 2))
    rows, columns = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="ij")
    angles = []
    for seed in range(60):
        image, human = JointTransform(41, rotation=15)(colour, grey, seed=seed)
        torch.testing.assert_close(image[0], human, atol=1.01 / 255, rtol=0)
        up, across = (-(human * axis).sum() / human.sum() for axis in (rows, columns))
        assert float(torch.hypot(up, across)) == pytest.approx(11, abs=0.1)
        angles.append(float(torch.rad2deg(torch.atan2(across, up))))
    assert -15.1 < min(angles) < -12
    assert 12 < max(angles) < 15.1
    plain = JointTransform(24, scale=(0.2, 0.9), flip=0.5)(colour, grey, seed=3)[0]
    assert torch.equal(plain, JointTransform(24, scale=(0.2, 0.9), flip=0.5, rotation=0)(colour, grey, seed=3)[0])


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("ratio", [0.875, 1.0, 1.15])
@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
@pytest.mark.parametrize("shape", [(180, 131), (60, 201), (96, 96)])
def test_evaluation_geometry_equals_timms(mode, ratio, interpolation, shape):
    from timm.data import create_transform

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    mean = (0.485, 0.456, 0.406)
    settings = {"crop_ratio": ratio, "interpolation": interpolation, "crop_mode": mode, "fill": mean}
    ours, _ = JointTransform(96, **settings)(image, None, seed=0)
    geometry = {"crop_pct": ratio, "interpolation": interpolation, "crop_mode": mode}
    theirs = create_transform((3, 96, 96), mean=mean, std=(1, 1, 1), **geometry)(image)
    torch.testing.assert_close(ours, theirs + torch.tensor(mean)[:, None, None])


def test_a_stretched_image_equals_the_published_codes():
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    array = np.random.default_rng(0).integers(40, 200, (256, 256, 3), dtype=np.uint8)  # ClickMe's size
    settings = {"crop_ratio": 0.875, "interpolation": "bicubic", "stretch": True}  # of attack=feng2025
    ours, _ = JointTransform(224, **settings)(Image.fromarray(array), None, seed=0)
    pixels = torch.from_numpy(array).permute(2, 0, 1).float() / 255  # the published order: float tensor, resize, crop
    cropped = CenterCrop(224)(Resize(256, InterpolationMode.BICUBIC)(pixels))
    assert torch.equal(ours, (cropped - cropped.min()) / (cropped.max() - cropped.min()))
    assert (float(ours.min()), float(ours.max())) == (0.0, 1.0)
    even, _ = JointTransform(8, stretch=True)(Image.new("RGB", (8, 8), (51, 51, 51)), None, seed=0)
    assert torch.equal(even, torch.full((3, 8, 8), 0.2))  # the published code gives NaN


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_the_human_map_gets_the_images_geometry(mode):
    grey = np.random.default_rng(0).integers(100, 256, (180, 131), dtype=np.uint8)
    settings = {"crop_ratio": 0.9, "interpolation": "bilinear", "crop_mode": mode}
    image, human = JointTransform(96, **settings)(
        Image.fromarray(np.stack([grey] * 3, 2)), Image.fromarray(grey), seed=0
    )
    torch.testing.assert_close(image[0], human, atol=1.01 / 255, rtol=0)
    assert bool((human == 0).any()) == (mode == "border")  # outside the map, importance is 0


def test_a_models_own_crop_mode_is_used():
    from harmonizer.models import resolve

    assert resolve("eva_large_patch14_336.in22k_ft_in1k").geometry["crop_mode"] == "squash"
    assert resolve("resnet50").geometry["crop_mode"] == "center"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size >= 1"),
        ({"flip": 2.0}, "flip"),
        ({"crop_ratio": 0.0}, "crop_ratio"),
        ({"rotation": -1.0}, "rotation"),
        ({"scale": (0.9, 0.1)}, "crop scale"),
        ({"interpolation": "nearest"}, "'nearest'"),
        ({"crop_mode": "fit"}, "crop_mode center or squash or border, got 'fit'"),
    ],
)
def test_wrong_transform_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        JointTransform(**{"size": 32} | settings)


def test_a_folder_without_shards_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no data folder at"):
        ShardDataset(tmp_path / "nowhere", PLAIN)
    with pytest.raises(FileNotFoundError, match="tar"):
        ShardDataset(tmp_path, PLAIN)
