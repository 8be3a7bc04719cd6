"""A plug-in for Brain-Score's vision library: what it registers, what its wrapper receives, what is refused."""

import ast
import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import harmonizer
from harmonizer.export.__main__ import main
from harmonizer.export.brainscore import layers, write_plugin
from harmonizer.models import PixelModel

HELPERS = "brainscore_vision.model_helpers"
STUBS = {  # modules of brainscore_vision, and what a plug-in imports from them
    "brainscore_vision": ["model_registry"],
    HELPERS: [],
    f"{HELPERS}.brain_transformation": ["ModelCommitment"],
    f"{HELPERS}.activations": [],
    f"{HELPERS}.activations.pytorch": ["PytorchWrapper", "load_preprocess_images"],
}


@pytest.fixture
def library(monkeypatch):
    """Stand-ins for brainscore_vision that keep their arguments."""
    contents = {
        "model_registry": {},
        "ModelCommitment": SimpleNamespace,
        "PytorchWrapper": SimpleNamespace,
        "load_preprocess_images": lambda files, **settings: settings,
    }
    for name, members in STUBS.items():
        module = ModuleType(name)
        vars(module).update({member: contents[member] for member in members})
        monkeypatch.setitem(sys.modules, name, module)
    return contents


def imported(folder, monkeypatch):
    """Import a plug-in's package by its path."""
    place = folder / "__init__.py"
    spec = importlib.util.spec_from_file_location(folder.name, place, submodule_search_locations=[str(folder)])
    package = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, folder.name, package)
    spec.loader.exec_module(package)
    package.model = sys.modules.pop(f"{folder.name}.model")  # the next test has its own model.py
    return package


def written(tmp_path, *words, name="my_model"):
    folder = tmp_path / name
    main([*words, f"brainscore={folder}"])
    return folder


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "torchvision:resnet18"])
def test_the_plugin_registers_the_exported_model(name, library, tmp_path, monkeypatch):
    folder = written(tmp_path, f"model={name}", "num_classes=3", "image_size=32", "seed=3")
    assert not folder.joinpath("__init__.py").read_text().count('"')  # the library looks for model_registry['NAME']
    assert "model_registry['my_model'] = " in folder.joinpath("__init__.py").read_text()
    package = imported(folder, monkeypatch)
    commitment = library["model_registry"]["my_model"]()
    wrapper = commitment.activations_model
    assert commitment.identifier == wrapper.identifier == "my_model" and wrapper.image_size == 32
    assert package.model.get_bibtex("my_model").startswith("@inproceedings{fel2022harmonizing,\n  title")
    images = torch.rand(2, 3, 32, 32)
    expected = harmonizer.load(name, num_classes=3, image_size=32, seed=3)(images)
    outputs = hooked(wrapper.model, [*commitment.layers, "logits"], images)
    assert list(outputs) == [*commitment.layers, "logits"]  # each ran, in this order
    assert all(isinstance(value, torch.Tensor) and len(value) == 2 for value in outputs.values())
    assert torch.equal(outputs["logits"], expected) and list(wrapper.model._modules)[-1] == "logits"
    ast.parse((folder / "test.py").read_text())


def test_the_requirements_install_nothing_by_package_name(tmp_path):
    text = written(tmp_path, "model=test_resnet").joinpath("requirements.txt").read_text()
    assert "neural-harmonizer @ git+https://" in text  # the form of its address, in a comment
    assert all(line.startswith("#") for line in text.splitlines())


@pytest.mark.parametrize("other", [None, ModuleType("harmonizer")], ids=["absent", "another"])
def test_a_plugin_without_this_project_says_how_to_install_it(other, library, tmp_path, monkeypatch):
    folder = written(tmp_path, "model=test_resnet", "image_size=32")
    monkeypatch.setitem(sys.modules, "harmonizer", other)
    with pytest.raises(ImportError, match=rf"expected Harmonizer {harmonizer.__version__} or later.* try pip install"):
        imported(folder, monkeypatch)


def hooked(model, names, images):
    """Return the outputs of modules in the order of execution, as Brain-Score's wrapper records them."""
    outputs = {}
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out}))
    with torch.no_grad():
        model(images)
    return outputs


def test_preprocessing_keeps_images_in_the_unit_interval(library, tmp_path, monkeypatch):
    package = imported(written(tmp_path, "model=test_resnet", "image_size=48"), monkeypatch)
    settings = package.get_model("my_model").preprocessing([])
    assert settings == {"image_size": 48, "normalize_mean": (0, 0, 0), "normalize_std": (1, 1, 1)}


def test_layers_are_stages_or_expanded_modules():
    assert layers(harmonizer.load("test_resnet")) == ["act1", "layer1", "layer2", "layer3", "layer4"]
    opened = layers(harmonizer.load("torchvision:vit_b_16", image_size=32))
    blocks = [f"encoder.layers.encoder_layer_{index}" for index in range(12)]
    assert opened == ["conv_proj", *blocks, "encoder.ln", "heads.head"]


class Unusual(nn.Module):
    """A module that returns no tensor, one that never runs, and one with a given name."""

    def __init__(self, name):
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.pooled = nn.MaxPool2d(2, return_indices=True)
        self.add_module(name, nn.Linear(12, 2))
        self.named = name

    def forward(self, images):
        return getattr(self, self.named)(self.pooled(images)[0].flatten(1))


def test_only_modules_that_return_tensors_are_layers():
    model = PixelModel(Unusual("head"), (0, 0, 0), (1, 1, 1))
    model.image_size = 4
    assert layers(model) == ["head"]


@pytest.mark.parametrize("name", ["a b", "head'", 'x"]\nimport os #', "é"])
def test_a_module_with_an_unusual_name_is_refused(name):
    model = PixelModel(Unusual(name), (0, 0, 0), (1, 1, 1))
    model.image_size = 4
    with pytest.raises(ValueError, match="expected a network with named layers"):
        layers(model)


@pytest.mark.parametrize("name", ["", ".hidden", "_own", "a-b", "a.b", "a'] = 1 #", 'a"', "a\n", "{size}", "x" * 101])
def test_an_invalid_identifier_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"expected brainscore=DIR to end in the model.s identifier"):
        write_plugin(tmp_path / name if name else type(tmp_path)("/"), lambda folder: folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=test_resnet", "out=x"], "expected brainscore=DIR without out"),
        (["model=test_resnet", "push=a/b"], "expected brainscore=DIR without push"),
        (["model=nets.py:Net"], "expected a model without code of its own, got nets.py:Net"),
        (["model=test_resent"], "did you mean test_resnet"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_files(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([*words, "brainscore=plugin"])
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_plugin_is_not_overwritten(tmp_path, capsys):
    folder = written(tmp_path, "model=test_resnet", "image_size=32")
    before = (folder / "model.py").read_bytes()
    with pytest.raises(SystemExit):
        main(["model=test_vit", f"brainscore={folder}"])
    assert "exists; choose another place with brainscore=DIR" in capsys.readouterr().err
    assert (folder / "model.py").read_bytes() == before
    assert (folder / "weights").stat().st_mode & 0o100  # the folder can still be entered


@pytest.mark.slow
def test_brainscore_vision_gives_the_models_logits(tmp_path, monkeypatch):
    library = pytest.importorskip("brainscore_vision", reason="brainscore_vision is not installed")
    folder = written(tmp_path, "model=test_resnet", "num_classes=1000", "image_size=48")
    imported(folder, monkeypatch)
    model = library.model_registry["my_model"]()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    wrapper = model.activations_model
    images = wrapper._extractor.preprocess([str(tmp_path / "image.png")])
    found = wrapper.get_activations(list(images), ["logits", *model.layers])
    with torch.no_grad():
        expected = harmonizer.load(folder / "weights")(
            torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None]
        )
    np.testing.assert_allclose(found["logits"], expected, atol=1e-6)
    assert set(found) == {"logits", *model.layers}
