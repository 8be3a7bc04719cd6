"""decision=animate in an evaluation: class categories, protocol names, feng2025's geometry."""

import json

import numpy as np
import programs
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import harmonizer
from harmonizer.data.class_names import imagenet_classes
from harmonizer.evaluation.decision import decision_of
from harmonizer.statistics import Status


def test_imagenets_first_398_classes_are_animate():
    decision = decision_of("animate", imagenet_classes())
    assert decision.groups == (0,) * 398 + (1,) * 602
    assert decision_of("animate", [str(i) for i in range(1000)]).groups == decision.groups
    assert decision_of("classes", ["a"]) is None


def test_categories_come_from_a_table(tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("class,category\nrobin,animate\nchair,inanimate\n")
    assert decision_of("animate", ["chair", "robin", "fish"], table).groups == (1, 0, 0)
    with pytest.raises(ValueError, match=r"none of 'robin' and 1 more; try categories=FILE\.csv"):
        decision_of("animate", ["mug", "robin", "chair"])
    with pytest.raises(ValueError, match="expected decision classes or animate, got 'animal'"):
        decision_of("animal", ["fish"])


def test_results_name_the_decision(tmp_path):
    torch.manual_seed(0)
    model = harmonizer.wrap(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), size=4)
    table = tmp_path / "mine.csv"
    table.write_text("class,category\n0,animate\n1,animate\n2,inanimate\n")
    images = torch.rand(12, 3, 4, 4)
    labels = torch.randint(3, (12,))
    plain = harmonizer.evaluate(model, (images, labels), attack="pgd", progress=False)
    decided = harmonizer.evaluate(
        model, (images, labels), attack="pgd", decision="animate", categories=table, progress=False
    )
    assert "decision" not in plain.summary["protocol"]
    assert (decided.summary["protocol"]["attack"], decided.summary["protocol"]["decision"]) == ("pgd", "animate")
    assert plain.summary["protocol"]["hash"] != decided.summary["protocol"]["hash"]
    for one, two in zip(plain.rows, decided.rows, strict=True):
        if one.status == two.status == Status.FOUND:
            assert two.l2 >= one.l2 * 0.9
        if two.status == Status.FOUND:
            assert (two.prediction == 2) != (two.label == 2)


@pytest.mark.slow
def test_feng2025_attacks_at_224_pixels_and_decides_two_ways(tmp_path):
    pytest.importorskip("foolbox")
    arguments = ["model=test_resnet", "images=6", "attack=feng2025", "attack.settings.steps=15", "label=mine"]
    command = [programs.ROOT / "evaluate.py", *arguments, f"results={tmp_path}"]
    done = programs.run(command)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "mine" / "summary.json").read_text())
    model, protocol = summary["model"], summary["protocol"]
    assert (protocol["attack"], protocol["decision"]) == ("feng2025", "animate")
    assert {name: protocol["settings"][name] for name in ("gamma", "min_stepsize")} == {
        "gamma": 10.0,
        "min_stepsize": 1e-5,
    }
    assert (model["input_size"], model["interpolated_to"]) == (224, 160)
    assert (model["crop_ratio"], model["interpolation"]) == (0.875, "bicubic")
    assert protocol["stretch"] is True  # as the data's transform says
    assert "feng2025" in summary["scores"]


def test_feng2025_stretches_each_image_and_equals_foolbox(tmp_path):
    foolbox = pytest.importorskip("foolbox")
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 7 * 7, 4)).eval()
    images = 0.3 + 0.2 * torch.rand(8, 3, 16, 16)  # low contrast: stretching makes radii about five times larger
    images[3:] *= torch.linspace(0.5, 1.5, 5)[:, None, None, None]
    maps = torch.rand(8, 16, 16)
    table = tmp_path / "mine.csv"
    table.write_text("class,category\n0,animate\n1,animate\n2,inanimate\n3,inanimate\n")
    low, high = (np.array([extreme(image) for image in images.numpy()]) for extreme in (np.min, np.max))
    shown = torch.from_numpy((images.numpy() - low[:, None, None, None]) / (high - low)[:, None, None, None])

    class TwoWay(nn.Module):
        def forward(self, x):
            logits = net(x)
            return torch.stack([logits[:, :2].max(1).values, logits[:, 2:].max(1).values], 1)

    with torch.no_grad():
        net[-1].weight *= 20
        net[-1].bias -= net(shown).mean(0)
        labels = net(shown).argmax(1)
    two_way = foolbox.PyTorchModel(TwoWay().eval(), bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.L2FMNAttack(steps=100, max_stepsize=1.0, min_stepsize=1e-5, gamma=10)
    _, attacked, fooled = attack(two_way, shown, (labels >= 2).long(), epsilons=None)
    settings = {"steps": 100, "categories": table, "progress": False}
    results = harmonizer.evaluate(net, (images, labels, maps), attack="feng2025", **settings)
    assert bool(fooled.all()) and results.summary["protocol"]["stretch"] is True
    for i, row in enumerate(results.rows):
        change = (attacked[i] - shown[i]).double().numpy()
        assert row.l2 == pytest.approx(np.linalg.norm(change), rel=1e-4)
        assert row.feng2025 == pytest.approx(spearmanr(np.abs(change.max(0)).ravel(), maps[i].ravel())[0], abs=1e-3)
    plain = harmonizer.evaluate(net, (images, labels, maps), attack="pgd", progress=False)
    assert "stretch" not in plain.summary["protocol"]  # only feng2025 stretches
    np.testing.assert_array_equal(plain.examples["image"][0], images[int(plain.examples["keys"][0])])


def test_images_are_interpolated_without_a_crop():
    model = harmonizer.load("test_resnet", num_classes=10, image_size=32)
    images = torch.rand(2, 3, 56, 56)
    model.interpolates_to = 32
    resized = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(images), model(resized))
