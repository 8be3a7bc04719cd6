"""The public Python interface: what ``import harmonizer`` offers, on tensors, batches and shards."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import programs
import pytest
import torch
from matplotlib.figure import Figure
from shard_data import CLASSES, write_folder
from torch import nn

import harmonizer
from harmonizer.data.batch import Batch
from harmonizer.data.datamodule import ShardData
from harmonizer.statistics import Status

NET = str(Path(__file__).parents[1] / "models/own_nets.py") + ":Net"
CHEAP = {"attack": "pgd", "steps": 3, "rounds": 4, "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("shards"), train=8, val=40)


@pytest.fixture(scope="module")
def data(folder):
    batches = list(ShardData(folder, model="test_resnet", batch_size=8, image_size=32, crop_ratio=1.0).val_dataloader())
    return tuple(torch.cat([getattr(batch, name) for batch in batches]) for name in ("images", "labels", "human_map"))


@pytest.fixture(scope="module")
def model():
    return harmonizer.load(NET, seed=1)


@pytest.fixture(scope="module")
def results(model, data):
    return harmonizer.evaluate(model, data, label="own", **CHEAP)


def assert_same(found, expected, images=None):
    assert len(found.rows) == (images or len(expected.rows))
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(found.columns[name], column[:images], name)


def test_import_loads_only_the_standard_library():
    code = (
        "import sys; before = set(sys.modules); import harmonizer; "
        "loaded = {name.partition('.')[0] for name in sys.modules.keys() - before}; "
        "print(sorted(loaded - sys.stdlib_module_names), sorted(set(harmonizer.__all__) - set(dir(harmonizer))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['harmonizer'] []\n"


def test_every_public_name_exists_and_is_documented():
    for name in harmonizer.__all__:
        assert getattr(harmonizer, name).__doc__, name
    with pytest.raises(AttributeError, match=r"no attribute 'evalute'; it has .*evaluate"):
        harmonizer.evalute  # noqa: B018


def test_the_seed_determines_a_new_models_weights():
    first, again, other = (harmonizer.load(NET, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["backbone.head.weight"], other["backbone.head.weight"])


def test_a_wrapped_model_includes_the_normalisation():
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    images = torch.rand(2, 3, 4, 4)
    wrapped = harmonizer.wrap(net, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), size=4)
    torch.testing.assert_close(wrapped(images), net((images - 0.5) / 0.25))
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module, got function"):
        harmonizer.wrap(lambda images: images)
    with pytest.raises(ValueError, match="three numbers each"):
        harmonizer.wrap(net, mean=0.5 * torch.ones(1), std=(1, 1, 1))
    with pytest.raises(ValueError, match=r"Sequential fails on an image \(1,3,8,8\): RuntimeError"):
        harmonizer.wrap(net, size=8)


class Normalised(nn.Module):
    """A model that normalises its images itself."""

    def __init__(self):
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor([0.5, 0.5, 0.5]))
        self.register_buffer("pixel_std", torch.tensor([0.2, 0.2, 0.2]))
        self.head = nn.Linear(3, 2)

    def forward(self, images):
        return self.head((images.mean((2, 3)) - self.pixel_mean) / self.pixel_std)


def test_normalising_twice_gives_a_warning(capsys):
    harmonizer.wrap(Normalised(), size=4)
    assert capsys.readouterr().err == ""
    harmonizer.wrap(Normalised(), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), size=4)
    assert "Normalised seems to normalise images itself" in capsys.readouterr().err


def test_probabilities_instead_of_logits_give_a_warning(data, capsys):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))
    for model, said in ((nn.Sequential(net, nn.Softmax(1)), True), (net, False)):
        harmonizer.evaluate(model, data, images=2, **CHEAP)
        assert ("Sequential returns probabilities, expected logits" in capsys.readouterr().err) is said


def test_tensors_arrays_batches_and_shards_give_the_same_rows(model, data, folder, results):
    images, labels, human = data
    parts = [(images[i : i + 7], labels[i : i + 7], human[i : i + 7]) for i in range(0, 40, 7)]
    arrays = tuple(part.numpy() for part in data)
    for same in (arrays, parts, iter(parts), Batch.of(*data)):
        found = harmonizer.evaluate(model, same, **CHEAP)
        assert_same(found, results)
        assert found.summary["accuracy"] == results.summary["accuracy"]
    shards = ShardData(folder, model="test_resnet", batch_size=8, image_size=32, crop_ratio=1.0)
    for place in (shards, folder):
        found = harmonizer.evaluate(model, place, **CHEAP)
        for name in ("status", "l2", "alignment", "feature_alignment"):
            np.testing.assert_array_equal(found.columns[name], results.columns[name])
        assert found.columns["key"][0] != results.columns["key"][0]


def test_images_limits_what_is_attacked_not_classified(model, data, results):
    some = harmonizer.evaluate(model, data, images=5, **CHEAP)
    assert_same(some, results, 5)
    assert some.summary["accuracy"]["n"] == 40
    assert some.summary["accuracy"]["value"] == results.summary["accuracy"]["value"]

    def endless():
        while True:
            yield tuple(part[:4] for part in data)

    found = harmonizer.evaluate(model, endless(), images=6, **CHEAP)
    assert [row.key for row in found.rows] == list("012345")


def test_images_without_maps_have_no_alignment(model, data):
    found = harmonizer.evaluate(model, data[:2], images=4, **CHEAP)
    assert all(np.isnan(found.columns["alignment"]))
    assert found.summary["adversarial_alignment"]["n"] == 0
    assert "alignment" not in repr(found)


def test_results_can_be_saved_read_shown_and_compared(results, model, data, tmp_path):
    assert repr(results).startswith("own: 40 images, attack pgd (")
    assert "tolerance, mean of min(L2, 10)" in repr(results)
    assert "<td>accuracy</td>" in results._repr_html_()
    assert isinstance(results.plot(results), Figure)
    assert results.has_examples == any(row.status == Status.FOUND for row in results.rows)
    again = harmonizer.load_results(results.save(tmp_path / "results/own"))
    assert repr(again) == repr(results)
    for name, column in results.columns.items():
        np.testing.assert_array_equal(again.columns[name], column)
    with pytest.raises(FileExistsError, match="holds results already"):
        results.save(tmp_path / "results/own")
    other = harmonizer.evaluate(harmonizer.load(NET, seed=2), data, **CHEAP)
    difference = harmonizer.compare(results, other)["feature_alignment"]
    expected = np.mean(other.columns["feature_alignment"] - results.columns["feature_alignment"])
    assert difference["mean"] == pytest.approx(expected) and difference["n"] == 40
    assert all(value == 0 for value in (harmonizer.compare(results, again)[name]["mean"] for name in ("tolerance",)))
    with pytest.raises(ValueError, match="different protocols"):
        harmonizer.compare(results, harmonizer.evaluate(model, data, images=4, **CHEAP))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, y, m: (x * 255, y, m),
            "expected images in .0,1., got values from .* try harmonizer.wrap.model, mean, std. for",
        ),
        (
            lambda x, y, m: ((x * 255).byte(), y, m),
            "as floats in .0,1., got torch.uint8; try images / 255",
        ),
        (lambda x, y, m: (x, y[:3], m), "expected images"),
        (lambda x, y, m: (x, y, m[:, :8]), "expected images"),
        (lambda x, y, m: (x, y + 3, m), "label"),
        (lambda x, y, m: x, "expected .images, labels. or"),
        (lambda x, y, m: 3, "expected .images, labels. or"),
        (lambda x, y, m: [3], "expected batches .images, labels."),
        (lambda x, y, m: [], "at least one image"),
    ],
)
def test_errors_about_unusable_data_are_one_line(change, message, model, data):
    with pytest.raises((TypeError, ValueError), match=message) as error:
        harmonizer.evaluate(model, change(*data), **CHEAP)
    assert "\n" not in str(error.value)


def test_classes_in_another_order_are_refused(folder, tmp_path):
    model = harmonizer.load("test_resnet", num_classes=len(CLASSES), image_size=32)
    own = tuple(reversed(CLASSES))
    model.architecture = replace(model.architecture, classes=own)
    with pytest.raises(ValueError, match=rf"test_resnet returns the classes {own[0]}, .*; the data have {CLASSES[0]}"):
        harmonizer.evaluate(model, folder, **CHEAP)
    with pytest.raises(ValueError, match=rf"as the model has, {len(CLASSES) + 1}, got {len(CLASSES)} in [^;]*$"):
        other = harmonizer.load("test_resnet", num_classes=len(CLASSES) + 1, image_size=32)
        harmonizer.evaluate(other, folder, **CHEAP)


def test_a_loaded_checkpoint_has_its_classes():
    path = Path(__file__).parents[1] / "golden/version_0_1/run/last.ckpt"
    names = torch.load(path, weights_only=True)["hyper_parameters"]["classes"]
    assert harmonizer.load(path).architecture.classes == tuple(names)


def test_a_gradient_masking_report_is_made_on_request(model, data, results):
    assert results.summary["health"] is None
    found = harmonizer.evaluate(model, data, images=8, health=1, **CHEAP)
    assert found.summary["health"]["n"] <= 1 and {"masked", "reasons"} <= found.summary["health"].keys()
    with torch.no_grad():
        black, grey = (model(torch.full((1, 3, 32, 32), value)).softmax(1)[0] for value in (0.0, 0.5))
    flat = found.summary["health"]["flat_images"]
    for name, shares in (("black", black), ("grey", grey)):
        assert flat[name]["prediction"] == shares.argmax()
        assert flat[name]["probability"] == pytest.approx(float(shares.max()), rel=1e-5)


def test_the_command_gives_the_same_rows_and_summary(folder, tmp_path):
    program = Path(harmonizer.__file__).parents[1] / "evaluate.py"
    attack = "--attack pgd attack.settings.steps=3 attack.settings.rounds=4 health=0 --images 10"
    data = f"--data folder data.folder={folder} data.num_workers=0"
    command = f"{program} --model {NET} {data} {attack} --label it"
    programs.run(command.split(), tmp_path).check_returncode()
    command_line = harmonizer.load_results(tmp_path / "results/it")
    settings = {"eps_max": 10.0, "restarts": 1}
    python = harmonizer.evaluate(
        harmonizer.load(NET, num_classes=3), folder, images=10, label="it", **CHEAP, **settings
    )
    for name, column in command_line.columns.items():
        np.testing.assert_array_equal(python.columns[name], column, name)
    for block in ("accuracy", "tolerance", "adversarial_alignment", "feature_alignment", "protocol", "survival"):
        np.testing.assert_equal(python.summary[block], command_line.summary[block])
    assert python.summary["model"]["weights_sha256"] == command_line.summary["model"]["weights_sha256"]
    assert len(CLASSES) == python.summary["data"]["classes"]
