"""decision=animate in an evaluation: categories of classes, names of protocols, feng2025's geometry."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
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
    command = [sys.executable, str(Path(__file__).parents[2] / "evaluate.py"), *arguments, f"results={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
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
    assert "feng2025" in summary["scores"]


def test_images_are_interpolated_without_a_crop():
    model = harmonizer.load("test_resnet", num_classes=10, image_size=32)
    images = torch.rand(2, 3, 56, 56)
    model.interpolates_to = 32
    resized = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(images), model(resized))
