"""Maps of ClickMe v2: HDF5, flat names, native sizes."""

import io
import json

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from harmonizer.data.dataset import SampleIndex, ShardDataset
from harmonizer.data.disk import disk_blur, disk_diameter
from harmonizer.data.transforms import JointTransform

NAMES = ("n01440764/ILSVRC2012_val_00000293.JPEG", "n01443537/ILSVRC2012_val_00000236.JPEG")
SIZES = ((120, 160), (96, 64))  # rows and columns


@pytest.fixture
def images(tmp_path):
    """Two images of different native sizes, each showing the values of its map."""
    maps = {}
    for number, (name, size) in enumerate(zip(NAMES, SIZES, strict=True)):
        values = gaussian_filter(np.random.default_rng(number).random(size), 6)
        maps[name] = (values - values.min()) / np.ptp(values)
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True)
        grey = np.rint(maps[name] * 255).astype(np.uint8)
        Image.fromarray(np.stack([grey] * 3, 2)).save(path, "PNG")
    return tmp_path / "images", maps


def write_hdf5(path, maps, *, named=True):
    """Write maps as the published code does."""
    with h5py.File(path, "w") as file:
        file.create_group("click_counts")
        file.create_group("metadata").attrs["completed"] = True
        for name, values in maps.items():
            group = file.require_group("clickmaps").create_group(name.replace("/", "_"))
            group.create_dataset("clickmap", data=values[None].astype(np.float32))
            group.create_dataset("bin_clickmaps", data=np.array(1))
            if named:
                group.attrs["original_path"] = name


def stored(sample):
    white = json.loads(sample.get("json", b"{}")).get("heatmap_white", 255.0)
    return np.asarray(Image.open(io.BytesIO(sample["heatmap.png"]))) / 65535 * white, white


@pytest.mark.parametrize("form", ["named HDF5", "HDF5", "folder of HDF5", "flat npy", "nested npy"])
def test_v2_maps_are_matched_to_their_images(form, images, convert, read_shards, tmp_path):
    folder, maps = images
    place = tmp_path / "maps"
    place.mkdir()
    if "HDF5" in form:
        write_hdf5(place / "imgnet_batch001.h5", maps, named="named" in form)
        place = place if "folder" in form else place / "imgnet_batch001.h5"
    else:
        for name, values in maps.items():
            path = place / f"{name.replace('/', '_') if form == 'flat npy' else name}.npy"
            path.parent.mkdir(exist_ok=True)
            np.save(path, values[None].astype(np.float32))
    assert convert(folder, "--maps", place, "--prepare", "none", "--out", tmp_path / "out") == (0, "")
    samples = read_shards(tmp_path / "out")
    for name, values in maps.items():
        found, white = stored(samples[name.removesuffix(".JPEG").replace("/", "-")])
        np.testing.assert_allclose(found, values, atol=white / 65535)


def test_image_and_native_map_get_the_same_geometry(images, convert, tmp_path):
    """Shorter side 256 and central 224: the evaluation geometry of timm's crop_pct 0.875."""
    folder, maps = images
    write_hdf5(tmp_path / "maps.h5", maps)
    arguments = (folder, "--maps", tmp_path / "maps.h5", "--prepare", "none", "--out", tmp_path / "out")
    assert convert(*arguments) == (0, "")
    dataset = ShardDataset(tmp_path / "out", JointTransform(224, crop_ratio=0.875))
    for index in range(2):
        item = dataset[SampleIndex(index, 0)]
        assert item.human_map.shape == (224, 224)
        assert spearmanr(item.image[0].ravel(), item.human_map.ravel()).statistic > 0.999


def test_raw_counts_are_blurred_at_their_native_size(images, convert, read_shards, tmp_path):
    folder, maps = images
    counts = {name: np.random.default_rng(0).poisson(0.01, values.shape).astype(float) for name, values in maps.items()}
    write_hdf5(tmp_path / "maps.h5", counts)
    arguments = (folder, "--maps", tmp_path / "maps.h5", "--prepare", "disk", "--out", tmp_path / "out")
    assert convert(*arguments) == (0, "")
    samples = read_shards(tmp_path / "out")
    for name, values in counts.items():
        import torch

        expected = disk_blur(torch.from_numpy(values), disk_diameter(*values.shape)).numpy()
        found, white = stored(samples[name.removesuffix(".JPEG").replace("/", "-")])
        np.testing.assert_allclose(found, expected, atol=white / 65535)
        assert white == expected.max()


def test_levels_of_a_v2_file_are_a_stack(images, convert, tmp_path):
    folder, maps = images
    write_hdf5(tmp_path / "maps.h5", maps)
    with h5py.File(tmp_path / "maps.h5", "r+") as file:
        group = file["clickmaps"][NAMES[0].replace("/", "_")]
        del group["clickmap"]
        group.create_dataset("clickmap", data=np.stack([maps[NAMES[0]]] * 10))
    arguments = (folder, "--maps", tmp_path / "maps.h5", "--prepare", "none", "--out", tmp_path / "out")
    status, message = convert(*arguments)
    assert (status, "--stack participants" in message) == (1, True)
    assert convert(*arguments, "--stack", "thresholds") == (0, "")


def damage(path, kind):
    """Damage a file of maps."""
    with h5py.File(path, "r+") as file:
        group = file["clickmaps"][NAMES[0].replace("/", "_")]
        values = group["clickmap"][()]
        if kind != "missing group":
            del group["clickmap"]
        if kind == "missing group":
            del file["clickmaps"]
        elif kind == "soft link":
            group["clickmap"] = h5py.SoftLink("/metadata")
        elif kind == "external link":
            group["clickmap"] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == "external data":
            group.create_dataset("clickmap", (1, 4, 4), "u1", external=[("/etc/passwd", 0, 16)])
        elif kind == "compressed":
            group.create_dataset("clickmap", data=values, compression="gzip")
        elif kind == "text":
            group.create_dataset("clickmap", data=np.array([b"text"]))
        elif kind == "announced":
            group.create_dataset("clickmap", (1 << 10, 1 << 20), "f8")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing group", "expected maps in /clickmaps"),
        ("nothing", "or a link"),
        ("soft link", "or a link"),
        ("external link", "or a link"),
        ("external data", "is in another file"),
        ("compressed", "or compressed"),
        ("text", "expected numbers"),
        ("announced", "announces 8589934592 bytes"),
    ],
)
def test_a_damaged_hdf5_file_gives_a_one_line_error(kind, message, images, convert, tmp_path):
    folder, maps = images
    write_hdf5(tmp_path / "maps.h5", maps)
    damage(tmp_path / "maps.h5", kind)
    arguments = (folder, "--maps", tmp_path / "maps.h5", "--prepare", "none", "--out", tmp_path / "out")
    status, said = convert(*arguments)
    assert status == 1
    assert message in said
    assert said.count("\n") == 1


def test_damaged_files_and_mismatched_maps_are_reported(images, convert, capsys, tmp_path):
    folder, maps = images
    (tmp_path / "maps.h5").write_bytes(b"no HDF5")
    arguments = (folder, "--maps", tmp_path / "maps.h5", "--prepare", "none", "--out", tmp_path / "out")
    status, said = convert(*arguments)
    assert (status, "damaged or not an HDF5 file" in said) == (1, True)
    write_hdf5(tmp_path / "maps.h5", maps | {"n0/other.JPEG": np.ones((4, 4))})
    assert convert(*arguments) == (0, "")
    write_hdf5(tmp_path / "maps.h5", {NAMES[0]: maps[NAMES[1]], NAMES[1]: maps[NAMES[1]]})
    status, said = convert(*arguments[:-1], tmp_path / "shape")
    assert (status, "expected the shape of the image" in said) == (1, True)


def test_an_ambiguous_flat_name_is_refused(convert, encode, tmp_path):
    for name in ("a_b/c.jpg", "a/b_c.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(encode(64, 64))
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps" / "a_b_c.jpg.npy", np.ones((64, 64)))
    status, said = convert(tmp_path / "images", "--maps", tmp_path / "maps", "--out", tmp_path / "out")
    assert (status, "could be the map of" in said) == (1, True)


def test_a_missing_h5py_is_named_in_the_error(images, convert, monkeypatch, tmp_path):
    import sys

    folder, maps = images
    write_hdf5(tmp_path / "maps.h5", maps)
    monkeypatch.setitem(sys.modules, "h5py", None)
    status, said = convert(folder, "--maps", tmp_path / "maps.h5", "--out", tmp_path / "out")
    assert (status, "pip install h5py" in said) == (1, True)
