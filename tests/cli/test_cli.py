"""The two spellings of the command line, ``--key value`` and ``key=value``."""

import functools
import importlib.metadata
import sys

import hydra
import pytest

from harmonizer import __version__
from harmonizer.cli import command_line, translate, unquoted

CASES = [
    (["--model", "resnet50", "--harmonize"], ["model=resnet50", "harmonize=true"]),
    (["--harmonize", "--model", "resnet50"], ["harmonize=true", "model=resnet50"]),
    (["--harmonize", "false"], ["harmonize=false"]),
    (["--harmonize=false"], ["harmonize=false"]),
    (["--harmonize", "model=resnet50"], ["harmonize=true", "model=resnet50"]),
    (["--recipe.lr", "1e-3"], ["recipe.lr=1e-3"]),
    (["--seed", "-1"], ["seed=-1"]),
    (["ckpt=runs/epoch=3.ckpt"], ["ckpt='runs/epoch=3.ckpt'"]),
    (["--ckpt", "epoch=3.ckpt"], ["ckpt='epoch=3.ckpt'"]),
    (["--ckpt", "it's=1"], [r"ckpt='it\'s=1'"]),
    (["ckpt='a=b.ckpt'"], ["ckpt='a=b.ckpt'"]),
    (["data.crop_scale=[0.1,1]", "+trainer.x={a: 1}"], ["data.crop_scale=[0.1,1]", "+trainer.x={a: 1}"]),
    (["--harmonize=off", "pair=YES"], ["harmonize=false", "pair=true"]),
    (["--harmonize", "No", "overwrite=1"], ["harmonize=false", "overwrite=true"]),
    (["--folder", "run (1), b"], ["folder='run (1), b'"]),
    (["folder=it's", "label=é"], [r"folder='it\'s'", "label='é'"]),
    (["folder=runs/${model}/a b", "+x=abs(-1)"], ["folder=runs/${model}/a b", "+x=abs(-1)"]),
    (["~logger.csv", "--multirun", "seed=1,2"], ["--multirun", "~logger.csv", "seed=1,2"]),
    (["--cfg", "job"], ["--cfg", "job"]),
    (["--harmonize", "--cfg"], ["--cfg", "job", "harmonize=true"]),
    (
        ["--model", "a", "--cfg", "job", "--package", "data", "--seed", "1"],
        ["--cfg", "job", "--package", "data", "model=a", "seed=1"],
    ),
    (["--info", "defaults", "seed=1", "-h"], ["--info", "defaults", "-h", "seed=1"]),
    (["--attack", "foolbox:L2FMNAttack"], ["attack=library", "attack.name=foolbox:L2FMNAttack"]),
    (
        ["attack=advlib:fmn", "attack.settings.steps=5"],
        ["attack=library", "attack.name=advlib:fmn", "++attack.settings.steps=5"],
    ),
    (["--model-args.drop-path-rate", "0.1"], ["++model_args.drop_path_rate=0.1"]),
    (["label=", "seed=1"], ["label=${oc.decode:null}", "seed=1"]),
    (["label=null", "seed=1e3", "seed=null"], ["label='null'", "seed=1e3", "seed=null"]),
    (["-cn", "train", "--help"], ["-cn", "train", "--help"]),
    (["--every-n-epochs", "2"], ["every_n_epochs=2"]),
    ([], []),
]

ODD = [
    "run (1)/a.ckpt",
    "run, b.ckpt",
    "it's.ckpt",
    "é~#&!;.ckpt",
    "a[1]{2}.ckpt",
    "end\\",
    "it\\'s\\\\.ckpt",
    'say "a"',
]

# Valid paths and names that Hydra's grammar would read as something else.
LOOKALIKES = [
    "[a]/x.ckpt",
    "{a}/x",
    "run(1)/x",
    "null",
    "NULL",
    "1e3",
    "true",
    "-7",
    "1_0",
    "nan",
    "[a",
    "a b ",
    "f(x)",
]


@pytest.mark.parametrize(("words", "expected"), CASES)
def test_arguments_translate_to_overrides_idempotently(words, expected):
    assert translate(words) == expected
    assert translate(expected) == expected


@pytest.mark.parametrize("path", ["a/epoch=3-step=9.ckpt", "it's=1.ckpt", "back\\slash=1.ckpt", "plain.ckpt", *ODD])
def test_a_path_survives_hydras_grammar(path):
    assert unquoted(translate([f"ckpt={path}"])[0].removeprefix("ckpt=")) == path
    with hydra.initialize(version_base="1.3", config_path="../../configs"):
        config = hydra.compose("evaluate", translate([f"ckpt={path}"]))
    assert config.ckpt == path


@pytest.mark.parametrize("text", LOOKALIKES)
@pytest.mark.parametrize(
    ("program", "more", "keys"),
    [
        ("evaluate", [], ("ckpt", "model", "weights", "label", "results")),
        ("train", ["data=folder"], ("weights", "folder", "data.folder", "data.cache")),
        ("train", ["data=mixed"], ("data.sources.clickme.folder",)),
    ],
)
def test_paths_and_names_that_look_like_values_stay_strings(text, program, more, keys):
    words = translate([*more, *(word for key in keys for word in (f"--{key}", text))])
    assert translate(words) == words
    with hydra.initialize(version_base="1.3", config_path="../../configs"):
        config = hydra.compose(program, words)
    for key in keys:
        assert functools.reduce(lambda part, name: part[name], key.split("."), config) == text


def test_a_sweep_file_may_have_any_path():
    with hydra.initialize(version_base="1.3", config_path="../../configs"):
        assert hydra.compose("evaluate", translate(["--sweep", "[a]/x y.yaml"])).sweep.file == "[a]/x y.yaml"


def test_an_empty_value_is_none():
    with hydra.initialize(version_base="1.3", config_path="../../configs"):
        config = hydra.compose("train", translate(translate(["--weights", ""])))
    assert config.weights is None


def test_version_lists_harmonizer_and_its_libraries(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--harmonize", "--version"])
    command_line(lambda: pytest.fail("started"))
    versions = {name: importlib.metadata.version(name) for name in ("torch", "lightning", "timm")}
    expected = ", ".join([f"harmonizer {__version__}", *(f"{name} {text}" for name, text in versions.items())])
    assert capsys.readouterr().out == f"{expected}\n"


def test_an_option_without_its_value_is_refused():
    with pytest.raises(ValueError, match="value after --model"):
        translate(["--model", "--harmonize"])
    with pytest.raises(ValueError, match="value after --seed"):
        translate(["--seed"])


def test_a_switch_must_be_true_or_false():
    with pytest.raises(ValueError, match="expected harmonize to be true or false, got maybe"):
        translate(["harmonize=maybe"])
    assert translate(["-m", "harmonize=true,false"]) == ["-m", "harmonize=true,false"]
