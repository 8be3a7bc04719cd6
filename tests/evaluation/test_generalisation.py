"""``benchmarks.generalisation`` and ``benchmarks.front``: their images, simulated people, equal passes and tables."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import one_hot

from benchmarks import front, generalisation
from benchmarks.front_figure import draw
from benchmarks.simulated_people import answers_of_people
from harmonizer.data.demo import dataset
from harmonizer.data.demo.render import paint
from harmonizer.results import load_results
from harmonizer.statistics import error_consistency

LABELS = generalisation.LABELS


class Answers(nn.Module):
    """Returns known answers to 500 images in order, starting over after the last."""

    image_size = 64

    def __init__(self, answers: np.ndarray) -> None:
        super().__init__()
        self.answers, self.seen = torch.from_numpy(answers), 0

    def forward(self, images: Tensor) -> Tensor:
        places = (self.seen + torch.arange(len(images))) % len(self.answers)
        self.seen += len(images)
        return one_hot(self.answers[places], 10).float()


@pytest.fixture(scope="module")
def images() -> dict[str, Tensor]:
    return {name: generalisation.drawn(name) for name in generalisation.SETS}


def test_the_validation_set_equals_that_of_the_demo_data(images: dict[str, Tensor]) -> None:
    for index in range(0, 500, 83):
        stored = Image.open(io.BytesIO(dataset._sample("val", index)["png"]))
        np.testing.assert_array_equal(images["validation"][index].permute(1, 2, 0), np.asarray(stored))


def test_objects_stay_when_the_background_changes() -> None:
    paintings = [paint("mug", texture, np.random.default_rng([1, 6])) for texture in ("waves", "dots", None)]
    for other in paintings[1:]:
        np.testing.assert_array_equal(paintings[0].coverage, other.coverage)
        assert (other.image != paintings[0].image).mean() > 0.5


def test_a_plain_background_has_no_texture(images: dict[str, Tensor]) -> None:
    def roughness(name: str) -> float:
        corner = images[name][:, :, :8, :8].float()
        return float(corner.diff(dim=3).abs().mean())

    assert roughness("plain") < roughness("validation") / 2


def test_backgrounds_are_swapped_with_every_other_class() -> None:
    pairs = set(zip(LABELS.tolist(), generalisation.SWAPPED.tolist(), strict=True))
    assert pairs == {(label, texture) for label in range(10) for texture in range(10) if label != texture}


def test_known_answers_give_the_expected_scores(images: dict[str, Tensor]) -> None:
    people = {"person 1": LABELS, "person 2": LABELS}
    by_shape = generalisation.measure(Answers(LABELS), images, {"noise 1": images["plain"]}, people)
    assert {by_shape[name] for name in (*generalisation.SETS, "by shape", "corruptions")} == {100.0}
    assert by_shape["error consistency"] == by_shape["between people"] == 1.0
    by_texture = generalisation.measure(Answers(generalisation.SWAPPED), images, {"noise 1": images["plain"]}, people)
    assert by_texture["by shape"] == by_texture["swapped"] == 0.0


def test_a_network_of_another_size_or_classes_is_refused(images: dict[str, Tensor]) -> None:
    network = Answers(LABELS)
    network.image_size = 32
    with pytest.raises(ValueError, match=r"64 pixels, got 32; try image_size=64"):
        generalisation.measure(network, images, {}, {})
    with pytest.raises(ValueError, match="10 classes, got 3"):
        generalisation.classify(nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1)), images["plain"][:, :, :, :1])


# kornia 0.8.0 calls torch.meshgrid without `indexing`, which torch 2.5 warns about.
@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
def test_stronger_corruptions_change_images_more(images: dict[str, Tensor]) -> None:
    clean = images["validation"][:40]
    moved = {
        name: float((corrupted.float() - clean.float()).square().mean())
        for name, corrupted in generalisation.corruptions(clean)
    }
    for name in generalisation.CORRUPTIONS:
        assert 0 < moved[f"{name} 1"] < moved[f"{name} 2"] < moved[f"{name} 3"], name


def test_simulated_people_err_on_the_same_images() -> None:
    right = [given == LABELS for given in answers_of_people(LABELS).values()]
    assert all(0.85 < one.mean() < 0.97 for one in right)
    kappas = [error_consistency(a, b)["kappa"] for i, a in enumerate(right) for b in right[:i]]
    assert min(kappas) > 0.3


def test_all_points_of_the_front_cost_the_same_passes() -> None:
    passes = {"control": 3, "modern": 0.8 * 6 + 0.2 * 3, "pgd-0.5": 9, "modern-pgd-0.5": 0.8 * 12 + 0.2 * 9}
    passes["modern-late-pgd-0.5"] = 0.7 * passes["modern"] + 0.3 * passes["modern-pgd-0.5"]
    for name, cost in passes.items():
        words = [*front.POINTS[name].split(), "experiment=demo_pair", "pair=false"]
        settings = dict(word.split("=") for word in front.budget(words, 32.0))
        steps = int(settings["recipe.epochs"]) * int(settings["budget.steps_per_epoch"])
        assert steps * 32 / 4000 * cost == pytest.approx(32, rel=0.01), name


def test_differences_are_paired_within_seed_and_protocol() -> None:
    golden = Path(__file__).parents[1] / "golden/version_0_1/results/test_efficientnet_gn-harmonized-seed-0"
    other, joint = load_results(golden), load_results(golden)
    joint.columns = other.columns | {"feature_alignment": other.columns["feature_alignment"] + 0.1}
    points = {"control-seed-0": other, "joint-seed-0": joint, "modern-seed-1": other}
    _, _, *rows = front.differences(points, "joint").splitlines()
    assert len(rows) == 1  # seed 1 has no joint run
    assert rows[0].startswith("| `control` | 0 |") and rows[0].count("| +0.000 [") == 2
    assert rows[0].endswith("| +0.100 [+0.100, +0.100] |")
    joint.summary["protocol"]["hash"] = "another"
    assert "control" not in front.differences(points, "joint")


def test_the_figure_names_every_recipe_and_its_axes() -> None:
    rows = {"control": [[94.0, 0.8, 0.7, 0.4, 0.5]], "modern": [[95.0, 1.2, 1.1, 0.6, 0.7], [93.0, 1.1, 1.0, 0.6, 0.7]]}
    figure = draw(rows)
    for axes in figure.axes:
        assert {text.get_text() for text in axes.texts} == set(rows)
        assert axes.get_xlabel() == "Accuracy (%)"
        assert re.search(r"\((L2|Spearman)", axes.get_ylabel())
