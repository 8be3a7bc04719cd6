"""Both spellings of the command line."""

import hydra
import pytest

from harmonizer.cli import clear_errors, translate, unquoted

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
    (["~logger.csv", "--multirun", "seed=1,2"], ["~logger.csv", "--multirun", "seed=1,2"]),
    (["--cfg", "job"], ["--cfg", "job"]),
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


@pytest.mark.parametrize(("words", "expected"), CASES)
def test_translation_and_its_idempotence(words, expected):
    assert translate(words) == expected
    assert translate(expected) == expected


@pytest.mark.parametrize("path", ["a/epoch=3-step=9.ckpt", "it's=1.ckpt", "back\\slash=1.ckpt", "plain.ckpt", *ODD])
def test_a_path_survives_hydras_grammar(path):
    assert unquoted(translate([f"ckpt={path}"])[0].removeprefix("ckpt=")) == path
    with hydra.initialize(version_base="1.3", config_path="../configs"):
        config = hydra.compose("evaluate", translate([f"ckpt={path}"]))
    assert config.ckpt == path


def test_a_flag_without_its_value_is_refused():
    with pytest.raises(ValueError, match="value after --model"):
        translate(["--model", "--harmonize"])
    with pytest.raises(ValueError, match="value after --seed"):
        translate(["--seed"])


def test_a_users_mistake_is_one_line_and_a_bug_keeps_its_traceback(capsys, monkeypatch):
    monkeypatch.delenv("HARMONIZER_TRACEBACK", raising=False)

    @clear_errors
    def fail(error):
        raise error

    with pytest.raises(SystemExit) as exit_:
        fail(ValueError("expected 1, got 2"))
    assert exit_.value.code == 2
    assert capsys.readouterr().err.endswith("error: expected 1, got 2\n")
    wrapped = hydra.errors.InstantiationException("Error in call to target")
    wrapped.__cause__ = FileNotFoundError("no checkpoint at x")
    with pytest.raises(SystemExit):
        fail(wrapped)
    assert "no checkpoint at x" in capsys.readouterr().err
    with pytest.raises(KeyError):
        fail(KeyError("a bug"))
    monkeypatch.setenv("HARMONIZER_TRACEBACK", "1")
    with pytest.raises(ValueError, match="expected 1"):
        fail(ValueError("expected 1, got 2"))


def test_a_switch_is_true_or_false():
    with pytest.raises(ValueError, match="expected harmonize true or false, got maybe"):
        translate(["harmonize=maybe"])
    assert translate(["-m", "harmonize=true,false"]) == ["-m", "harmonize=true,false"]


def test_a_mistake_in_a_loading_process_is_one_line_too(capsys):
    @clear_errors
    def fail():
        raise ValueError(
            "Caught DamagedSample in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
            '  File "x.py", line 1, in <module>\nharmonizer.data.damage.DamagedSample: sample 7: cut\n'
        )

    with pytest.raises(SystemExit):
        fail()
    assert capsys.readouterr().err.partition(": ")[2] == "error: sample 7: cut\n"


def test_a_misspelled_switch_is_told_from_an_option_without_its_value():
    with pytest.raises(ValueError, match="did you mean --harmonize"):
        translate(["--harmonise"])
    with pytest.raises(ValueError, match="try --model VALUE"):
        translate(["--model"])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["data.image_size=big", "seed=1"], "data.image_size=big has"),
        (["+data.flip=x", "data.window=y"], "data.flip=x or data.window=y has"),
        (["database.size=big"], "a setting of data has"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(capsys, monkeypatch, words, named):
    monkeypatch.delenv("HARMONIZER_TRACEBACK", raising=False)
    monkeypatch.setattr("sys.argv", ["train.py", *words])

    @clear_errors
    def fail():
        try:
            return "big" < 1
        except TypeError as error:
            raise hydra.errors.InstantiationException("Error in call to target\nfull_key: data") from error

    with pytest.raises(SystemExit):
        fail()
    expected = (
        f"train.py: error: {named} a value of the wrong kind ('<' not supported between instances of 'str' and 'int')\n"
    )
    assert capsys.readouterr().err == expected
