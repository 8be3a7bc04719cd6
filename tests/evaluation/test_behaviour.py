"""Error consistency and shape bias: kappa from the 2 x 2 table, the sixteen categories, the command."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from harmonizer.evaluation import behaviour
from harmonizer.evaluation.load import load
from harmonizer.functional.sixteen import CATEGORIES, category_indices, sixteen_class_decision
from harmonizer.metrics import ErrorConsistency
from harmonizer.models import weights_digest
from harmonizer.results import read_behaviour
from harmonizer.statistics import error_consistency, shape_bias
from harmonizer.training.module import HarmonizerModule

HEADER = "subj,session,trial,rt,object_response,category,condition,imagename\n"


def test_the_categories_are_disjoint_and_of_the_published_sizes():
    sizes = {name: len(category_indices(name)) for name in CATEGORIES}
    assert list(CATEGORIES) == sorted(CATEGORIES) and len(CATEGORIES) == 16
    assert (sizes["dog"], sizes["bird"], sizes["truck"], sizes["bottle"], sizes["cat"]) == (109, 49, 8, 7, 6)
    every = [i for name in CATEGORIES for i in category_indices(name)]
    assert len(every) == len(set(every)) and max(every) < 1000


def test_a_decision_is_the_largest_mean_of_probabilities():
    logits = torch.randn(20, 1000, generator=torch.Generator().manual_seed(0)) * 3
    shares = np.exp(logits.double().numpy())
    expected = np.stack([shares[:, category_indices(name)].mean(1) for name in CATEGORIES], 1).argmax(1)
    assert sixteen_class_decision(logits).tolist() == expected.tolist()
    with pytest.raises(ValueError, match=r"expected logits \(B,1000\) of ImageNet's classes"):
        sixteen_class_decision(torch.zeros(2, 10))


def test_kappa_and_bias_equal_a_separate_computation():
    rng = np.random.default_rng(0)
    a, b = rng.random(200) < 0.7, rng.random(200) < 0.6
    table = np.array([[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]) / 200
    chance = float((table.sum(0) * table.sum(1)).sum())  # Cohen's kappa of the 2 x 2 table
    expected = (np.trace(table) - chance) / (1 - chance)
    assert error_consistency(a, b)["kappa"] == pytest.approx(expected, abs=1e-12)
    metric = ErrorConsistency()
    metric.update(torch.from_numpy(a[:80]), torch.from_numpy(b[:80]))
    metric.update(torch.from_numpy(a[80:]), torch.from_numpy(b[80:]))
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-12)
    assert error_consistency([True, True], [True, True])["kappa"] == 1.0  # as published, though chance agrees too
    answers = ["cat", "dog", "car", "cat", "cat"]
    bias = shape_bias(answers, ["cat", "cat", "cat", "cat", "dog"], ["dog", "dog", "dog", "cat", "cat"])
    assert (bias["n"], bias["n_shape"], bias["n_texture"], bias["shape_bias"]) == (4, 1, 2, 1 / 3)


def test_the_command_compares_a_model_with_people(tmp_path, capsys):
    names = ["cat1-dog2", "dog3-cat1", "car1-clock2", "bear1-bear2", "oven1-knife3", "chair2-boat1"]
    lines, rng = [], np.random.default_rng(1)
    for number, name in enumerate(names):
        noise = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number:04d}_cl_dnn_0_{name}.png")
        for person in ("s1", "s2"):
            answer = name.split("-")[0].rstrip("0123456789") if (number + len(person + name)) % 2 else "na"
            answer = "knife" if person == "s2" and number == 4 else answer
            category = name.split("-")[0].rstrip("0123456789")
            lines.append(f"{person},1,{number},0.5,{answer},{category},0,{number}_cl_{person}_0_{name}.png\n")
    lines.append("s1,1,9,0.5,cat,cat,0,9_cl_s1_0_cat9-dog9.png\n")  # its image is missing
    people = tmp_path / "people.csv"
    people.write_text(HEADER + "".join(lines))
    words = ["test_resnet", "--images", str(tmp_path), "--humans", str(people), "--out", str(tmp_path / "out")]
    assert behaviour.main(words) == 0
    assert "error_consistency" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "behaviour.json").read_text())
    assert (found["images"], found["people"], found["trials"], found["trials_without_image"]) == (6, 2, 12, 1)
    assert found == {**found, **read_behaviour(tmp_path / "out")}  # the report reads it
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = HarmonizerModule("test_resnet", [str(i) for i in range(1000)], 160)
    assert weights_digest(module.model) != found["weights_sha256"]
    module.model.load_state_dict(load("test_resnet").state_dict())
    assert weights_digest(module.model) == found["weights_sha256"]  # evaluate.py gives the same weights this digest
    answers = list(csv.DictReader((tmp_path / "out" / "answers.csv").read_text().splitlines()))
    own = [line["object_response"] == line["category"] for line in answers]
    assert found["accuracy"] == pytest.approx(np.mean(own))
    kappas = []
    for person in ("s1", "s2"):
        said = {
            line["imagename"].split("_")[-1]: line
            for line in csv.DictReader(people.read_text().splitlines())
            if line["subj"] == person
        }
        theirs = [said[line["imagename"].split("_")[-1]] for line in answers]
        kappas.append(error_consistency(own, [one["object_response"] == one["category"] for one in theirs])["kappa"])
    assert found["error_consistency"] == pytest.approx(np.mean(kappas))
    assert found["people_shape_bias"]["n"] == 10  # a bear with a bear's texture is not a cue conflict


def test_the_digest_depends_on_images_and_answers(tmp_path):
    trial = behaviour.Trial("s1", ("0", "cat1"), "cat", "dog")
    image = tmp_path / "cat1.png"
    image.write_bytes(b"one")
    files = {trial.image: image}
    first = behaviour.data_digest(files, [trial])
    unseen = behaviour.Trial("s1", ("0", "cat2"), "cat", "dog")
    assert behaviour.data_digest(files, [unseen, trial]) == first
    assert behaviour.data_digest(files, [replace(trial, response="cat")]) != first
    image.write_bytes(b"two")
    assert behaviour.data_digest(files, [trial]) != first


def test_errors_name_invalid_answers_and_missing_images(tmp_path):
    table = tmp_path / "a.csv"
    table.write_text(HEADER + "s1,1,1,0.5,cat,tiger,0,x_cat.png\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 2: expected a category of airplane, .* got 'tiger'"):
        behaviour.read_trials(table)
    table.write_text("subj,category\n")
    with pytest.raises(ValueError, match="session is missing"):
        behaviour.read_trials(table)
    with pytest.raises(FileNotFoundError, match=r"expected images with human answers in .*, got none"):
        behaviour.find_images(tmp_path, [])
