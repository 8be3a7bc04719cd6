"""A Keras weights file that matches no known network, or is not plain data, is refused in one line."""

import re
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from keras_file import distance, write

from harmonizer.evaluation.model_spec import resolve_model
from harmonizer.evaluation.sweep_list import read_models
from harmonizer.models.convert_weights import convert, main
from harmonizer.models.keras.hdf5 import open_weights


@pytest.fixture(scope="module")
def levit(tmp_path_factory):
    return write(tmp_path_factory.mktemp("levit") / "levit.h5", "levit_128")


@pytest.fixture
def refused(levit, tmp_path):
    """Return a function that changes a copy of a LeViT's file and returns the error message."""

    def run(change):
        file = Path(shutil.copy(levit, tmp_path / "changed.h5"))
        with h5py.File(file, "r+") as content:
            change(content)
        with pytest.raises(ValueError, match=r"changed\.h5") as caught:
            convert(file, tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir() if "secret" not in path.name) == ["changed.h5"]
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return run


def test_a_converted_folder_is_a_model_name_and_a_sweep_entry(levit, tmp_path):
    folder = tmp_path / "models" / "levit_small_harmonized"
    convert(levit, folder)
    (tmp_path / "models" / "exported").mkdir()
    (tmp_path / "models" / "exported" / "config.json").write_text('{"architecture": "resnet18"}')
    exported, harmonized = read_models({"CNN": ["resnet50"]}, folder=tmp_path / "models")[1:]
    assert (exported.name, exported.family) == ("exported", None)
    assert (harmonized.name, harmonized.family) == ("levit_small_harmonized", "harmonized")
    spec = resolve_model(**harmonized.settings)
    assert (spec.image_size, spec.label) == (224, "levit_small_harmonized")
    model = spec.build([str(number) for number in range(10)]).model.eval()
    assert distance(lambda inputs: model(inputs * model.std + model.mean), "levit_128") < 5e-6
    with pytest.raises(
        FileNotFoundError, match=r"no models in .*levit_small_harmonized; expected folders with a config"
    ):
        read_models([], folder=folder)


KERNEL = "head/head/kernel:0"


def replaced(file, name, **settings):
    """Replace a dataset with another one."""
    del file[name]
    return file.create_dataset(name, **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["head_bn/head_bn"].move("beta:0", "offset:0"), "no weights 'head_bn/offset'"),
        (lambda f: f.create_dataset("head/head/kernel", data=np.ones(2, "f4")), "each weight once, got 'head/kernel'"),
        (
            lambda f: f.create_dataset("head/distill_head/bias:0", data=np.ones(2, "f4")),
            "no weights 'distill_head/bias'",
        ),
        (lambda f: f["head_bn"].move("head_bn", "stack9_block1_out"), "no weights 'stack9_block1_out/"),
        (lambda f: f.pop("stack2_block3_out"), r"got none for 'stages.1.blocks.2.attn.proj.ln.linear.weight'"),
        (lambda f: f.pop("head"), r"got no bias of levit_128's head.linear; is the top missing\?"),
        (
            lambda f: replaced(f, KERNEL, data=np.ones((10, 384), "f4")),
            r"'head/kernel' of shape \(1, 1, 384, 10\) or \(384, 10\), got \(10, 384\)",
        ),
        (lambda f: replaced(f, KERNEL, data=np.ones((384, 10), "i4")), "an array of floats, got int32"),
        (lambda f: replaced(f, KERNEL, data=np.array("x", "O")), "an array of floats, got object"),
        (lambda f: f[KERNEL].write_direct(np.full((384, 10), np.nan, "f4")), "expected finite real numbers"),
    ],
)
def test_names_shapes_and_values_must_match_the_network(refused, change, message):
    assert re.search(message, refused(change))


def linked(file, link):
    del file[KERNEL]
    file[KERNEL] = link


def virtual(file):
    layout = h5py.VirtualLayout((384, 10), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "data", (384, 10))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def cyclic(file):
    file["head/again"] = file["head"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: linked(f, h5py.ExternalLink("secret.h5", "/data")), "got a link at 'kernel:0'; it is not followed"),
        (lambda f: linked(f, h5py.SoftLink("/head_bn")), "got a link at 'kernel:0'; it is not followed"),
        (
            lambda f: f.__setitem__("model_weights", h5py.ExternalLink("secret.h5", "/")),
            "got a link at 'model_weights'",
        ),
        (lambda f: replaced(f, KERNEL, shape=(384, 10), dtype="f4", external="secret.bin"), "in another file"),
        (virtual, "in another file"),
        (lambda f: replaced(f, KERNEL, data=np.ones((384, 10), "f4"), compression="gzip"), "15360 uncompressed bytes"),
        (
            lambda f: replaced(f, KERNEL, shape=(384, 10**12), dtype="f4", chunks=(1, 10)),
            "uncompressed bytes, got 0 stored",
        ),
        (cyclic, "each group once"),
        (lambda f: f.id.links.create_soft(b"\xff\xfe", b"/head"), "names in UTF-8"),
        (lambda f: f.__setitem__("model_weights", np.ones(3)), "got 'model_weights' outside of any layer"),
        (lambda f: f.attrs.create("model_config", "[" * 10_000), "model_config in JSON"),
        (lambda f: f.attrs.create("model_config", np.ones(3)), "model_config in JSON"),
    ],
)
def test_a_weights_file_must_be_self_contained_plain_data(refused, tmp_path, change, message):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data"] = np.ones((384, 10), "f4")
    (tmp_path / "secret.bin").write_bytes(b"secret" * 10_000)
    assert message in refused(change)


def test_other_files_are_refused_in_one_line(tmp_path, levit):
    def message(file):
        with pytest.raises((ValueError, OSError)) as caught:
            convert(file, tmp_path / "out")
        assert not (tmp_path / "out").exists() and "\n" not in str(caught.value)
        return str(caught.value)

    assert f"no file {tmp_path / 'none.h5'}" in message(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    assert "damaged or not an HDF5 file" in message(tmp_path / "text.h5")
    (tmp_path / "half.h5").write_bytes(levit.read_bytes()[:10_000_000])
    assert "damaged or not an HDF5 file" in message(tmp_path / "half.h5")
    with h5py.File(tmp_path / "three.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones(3, "f4")
    assert 'model.save("weights.h5")' in message(tmp_path / "three.weights.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_group("dense").attrs["weight_names"] = [b"dense/kernel:0"]
        file["dense/dense/kernel:0"] = np.ones((3, 3), "f4")
    assert "expected weights of one of keras.applications.VGG16, " in message(tmp_path / "other.h5")
    assert "got 'dense/kernel'" in message(tmp_path / "other.h5")


def test_an_error_of_the_caller_is_not_blamed_on_the_file(levit):
    with pytest.raises(RuntimeError, match="out of memory"), open_weights(levit):
        raise RuntimeError("out of memory")


def test_an_existing_folder_and_missing_h5py_fail_in_one_line(tmp_path, levit, monkeypatch, capsys):
    def error():
        with pytest.raises(SystemExit, match="2"):
            main([str(levit), "--out", str(tmp_path)])
        return capsys.readouterr().err

    assert error().endswith("exists; choose another place with --out DIR\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert error().endswith("error: h5py is needed to read levit.h5, got none; try: pip install h5py\n")
