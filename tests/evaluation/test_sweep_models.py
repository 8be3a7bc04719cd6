"""The lists of models that a sweep measures."""

import re
from pathlib import Path

import pytest
import timm
import yaml

from harmonizer.evaluation.sweep_list import Entry, read_models
from harmonizer.results import folder_name
from harmonizer.results.families import FAMILIES, guess_family

ROOT = Path(__file__).parents[2]


def test_each_timm_name_has_weights_and_a_family():
    settings = yaml.safe_load((ROOT / "configs/sweep/timm.yaml").read_text())
    entries = read_models(settings["models"], pretrained=settings["pretrained"])
    assert len(entries) == 305
    known = set(timm.list_models(pretrained=True))
    for entry in entries:
        assert entry.settings["pretrained"]
        assert entry.name in known
        assert timm.get_pretrained_cfg(entry.name).num_classes == 1000
        assert entry.family == guess_family(entry.name)  # a wrong guess would need an exception here


def test_a_sweep_has_unique_folder_names_and_known_families():
    entries = read_models(yaml.safe_load((ROOT / "configs/sweep/timm.yaml").read_text())["models"])
    assert len({folder_name(entry.name) for entry in entries}) == len(entries)
    assert {entry.family for entry in entries} <= set(FAMILIES)


def test_a_users_list_is_appended_with_its_own_settings(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("pretrained: true\nmodels:\n  hybrid: [test_vit]\n  control: [{ckpt: a.ckpt, label: mine}]\n")
    assert read_models(["test_resnet"], file) == [
        Entry({"model": "test_resnet", "pretrained": False}),
        Entry({"model": "test_vit", "pretrained": True}, "hybrid"),
        Entry({"ckpt": "a.ckpt", "label": "mine"}, "control"),
    ]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "expected models to sweep"),
        (["a", "a"], "each model once, got a again"),
        ("resnet50", "expected a list of models"),
        ([3], "a model's name, a checkpoint or a mapping, got 3"),
        ([{"model": "a", "size": 3}], "got 'size'"),
        ([{"model": "a", "ckpt": "b"}], "either model or ckpt"),
    ],
)
def test_errors_explain_a_malformed_list(listed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_models(listed)


def test_missing_and_damaged_lists_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no list of models at"):
        read_models([], tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_text("a: [b")
    with pytest.raises(ValueError, match=r"bad\.yaml: expected YAML"):
        read_models([], tmp_path / "bad.yaml")


def test_code_that_a_file_names_runs_only_when_trusted(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- nets.py:make\n- model: resnet50\n  weights: a.pth\n")
    with pytest.raises(
        ValueError, match=r"names nets.py:make, which is code and is not run automatically; add trust=true"
    ):
        read_models([], path)
    assert [entry.name for entry in read_models([], path, trust=True)] == ["nets.py:make", "resnet50"]
    assert read_models(["nets.py:make"])[0].settings["model"] == "nets.py:make"  # typed on the command line
