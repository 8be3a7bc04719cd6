"""Mistakes of a user end in one line that suggests what was probably meant."""

import importlib.metadata
import itertools
import sys

import hydra
import pytest

from harmonizer.cli import clear_errors, command_line, translate
from harmonizer.cli.suggest import DERIVED, known_settings, nearest_settings, unknown_choice, unknown_setting

SLIPS = [
    ("train", "--epochs 1", "there is no setting epochs; did you mean recipe.epochs=1?"),
    ("train", "lr=0.01", "there is no setting lr; did you mean recipe.lr=0.01?"),
    ("train", "optimizer=sgd", "did you mean recipe.optimizer=sgd?"),
    ("train", "recipe.learning_rate=1", "there is no setting recipe.learning_rate; did you mean recipe.lr=1?"),
    ("train", "recipe.optimzer=sgd", "did you mean recipe.optimizer=sgd?"),
    ("train", "--gpus 4", "did you mean trainer.devices=4?"),
    ("train", "--workers 4 --data folder data.folder=x", "did you mean data.num_workers=4?"),
    ("train", "--drop-path-rate 0.1", "did you mean model_args.drop_path_rate=0.1?"),
    ("train", "modle=a", "did you mean model=a?"),
    ("train", "data.folder=x", "it needs --data folder or --data mixed"),
    ("train", "experimant=demo_pair", "did you mean experiment=demo_pair?"),
    ("train", "zzzz=1", "there is no setting zzzz; --cfg job shows all"),
    ("evaluate", "--batch-size 4", "did you mean data.eval_batch_size=4?"),
    ("evaluate", "recipe.lr=1", "no setting recipe.lr in evaluate.py; did you mean train.py recipe.lr=1?"),
    ("train", "--experiment demo_par", "expected experiment to be one of demo_pair, "),
    ("train", "--experiment demo_par", "got 'demo_par'; try experiment=demo_pair"),
    ("evaluate", "--experiment demo_par", "did you mean train.py experiment=demo_pair?"),
    ("train", "--data imagenet", "got 'imagenet'; try --data folder data.folder=FOLDER for data of your own"),
    ("evaluate", "--data imagenet", "got 'imagenet'; try --data folder data.folder=FOLDER for data of your own"),
    ("train", "--recipe fel2023", "expected recipe to be one of cyborg, fel2022, "),
    ("train", "--trainer dpp", "try trainer=ddp"),
    ("train", "--logger wandbb", "try logger=wandb"),
    ("train", "--attack ddm", "try attack=ddn or attack=foolbox:NAME"),
    ("evaluate", "--attack ddm", "try attack=ddn or attack=foolbox:NAME"),
    ("evaluate", "--sweep tim", "try sweep=timm or sweep=FILE.yaml"),
    ("evaluate", "--callbacks evaluat", "try callbacks=evaluate"),
    ("evaluate", "attack=adv_lib:fmn", "attack=advlib:NAME"),
    ("train", "resnet50", "expected key=value or --key value, got 'resnet50'; try --model resnet50"),
    ("train", "demo_pair", "try experiment=demo_pair"),
    ("train", "harmonize", "try --harmonize"),
    ("train", "-model resnet50", "got '-model'; try --model"),
    ("train", "\N{EN DASH}harmonize", "try --harmonize"),
    ("evaluate", "runs/a/best.ckpt", "try ckpt=runs/a/best.ckpt"),
    ("evaluate", "ckpt=https://x.org/a.ckpt", "a local checkpoint, got https://x.org/a.ckpt; download it"),
    ("evaluate", "ckpt=null", "no checkpoint at null"),
    ("train", "recipe.lr=[1", "expected a valid value, got recipe.lr=[1"),
    ("train", "--data folder", "expected data.folder=FOLDER, got none"),
    ("evaluate", "--data folder --model test_vit", "expected data.folder=FOLDER, got none"),
    ("train", "--data mixed", "expected data.sources.clickme.folder=FOLDER, got none"),
    ("train", "folder=${nope}", "nope"),
    ("train", "images=0", "expected images >= 1, or null, got 0"),
    ("train", "every_n_epochs=-1", "expected every_n_epochs >= 0, got -1"),
    ("train", "data.num_workers=-1", "expected data.num_workers >= 0, or null for one per core, got -1"),
    ("train", "recipe.lr=fast", "expected recipe.lr to be a number, got 'fast'"),
    ("train", "recipe.batch_size=1.5", "expected recipe.batch_size to be a whole number, got 1.5"),
    ("train", "~recipe", "expected a setting recipe.batch_size, which other settings use, got none; try the"),
    ("train", "experiment=[demo_par]", "got 'demo_par'; try experiment=demo_pair"),
    ("evaluate", "--model A --ckpt B", "expected either ckpt=FILE or model=NAME, got both: ckpt=B and model=A"),
    ("evaluate", "images=4", "expected either ckpt=FILE or model=NAME, got neither"),
    ("train", f"folder={__file__} --model test_resnet", f"expected a folder at {__file__}, got a file; choose another"),
    ("evaluate", f"results={__file__} --model test_resnet", f"expected a folder at {__file__}, got a file; choose"),
    ("train", "recipe.warmup_epochs=100 --model test_resnet", "expected warmup_epochs <= 5, the training's ep"),
    ("train", "recipe.levels=50 --model test_resnet --harmonize", "expected at most 6 pyramid levels at 32 x 32 pix"),
]


@pytest.mark.parametrize(("program", "line", "message"), SLIPS)
def test_a_user_mistake_ends_in_one_helpful_line(program, line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HARMONIZER_TRACEBACK", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{program}.py", *line.split(" ")])
    main = importlib.import_module(program).main
    with pytest.raises(SystemExit) as exit_:
        command_line(main)
    out, error = capsys.readouterr()
    assert exit_.value.code == 2
    assert error.startswith(f"{program}.py: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not out
    assert not list(tmp_path.iterdir()) or program == "evaluate"  # evaluate.py has locked its label by then


@pytest.mark.parametrize("program", ["train", "evaluate"])
def test_every_group_refuses_an_unknown_choice(program, tmp_path, monkeypatch, capsys):
    groups = {choices[0].split()[0] for choices in known_settings(program).values() if choices}
    groups |= {"experiment"} if program == "train" else set()
    assert groups >= {"data", "attack", "trainer"}
    main = importlib.import_module(program).main
    for group, name in itertools.product(groups, ("nosuch", "null", "1", "true")):
        monkeypatch.setattr(sys, "argv", [f"{program}.py", f"{group}={name}"])
        with pytest.raises(SystemExit):
            command_line(main)
        error = capsys.readouterr().err
        assert f"expected {group} to be one of " in error and f"got {name!r}" in error


def test_only_existing_settings_are_suggested():
    for program in ("train", "evaluate"):
        known = known_settings(program)
        assert not DERIVED & {name.partition(".")[0] for name in known}
        for key in (
            "learning_rate",
            "workers",
            "devices",
            "batch_size",
            "epoch",
            "img_size",
            "precision",
            "checkpoint",
        ):
            assert set(nearest_settings(key, program)) <= set(known), key


def test_settings_are_known_per_program_and_choice():
    assert "recipe.lr" in known_settings("train")
    assert known_settings("train")["data.mixup"] == ("data folder", "data mixed")
    assert known_settings("train")["trainer.precision"] == ("trainer auto", "trainer ddp", "trainer slurm")
    assert unknown_setting("x", "export") == "there is no setting x; --cfg job shows all"
    assert unknown_choice("trainer", "zzz", ["auto"]) == "expected trainer to be one of auto, got 'zzz'"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install -U 'wandb>=0.12.10'`", "wandb"),
        ("Neither `tensorboard` nor `tensorboardX` is available. Try `pip install`ing either.", "tensorboard"),
        ("No module named 'adv_lib'", "adv-lib (with setuptools below 81; see benchmarks/README.md)"),
        ("No module named 'foolbox'", "foolbox"),
    ],
)
def test_a_missing_extra_is_one_line_with_the_pip_command(text, command, capsys, monkeypatch):
    monkeypatch.delenv("HARMONIZER_TRACEBACK", raising=False)

    @clear_errors
    def fail(error):
        raise hydra.errors.InstantiationException("Error in call to target") from error

    with pytest.raises(SystemExit):
        fail(ModuleNotFoundError(text))
    error = capsys.readouterr().err
    assert error.endswith(f"; try: pip install {command}\n")
    assert error.count("\n") == 1
    with pytest.raises(hydra.errors.InstantiationException):
        fail(ImportError("cannot import name 'x' from 'harmonizer'"))


def test_a_mistake_is_one_line_and_a_bug_keeps_its_traceback(capsys, monkeypatch):
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


def test_a_mistake_in_a_dataloader_worker_is_one_line(capsys):
    @clear_errors
    def fail():
        raise ValueError(
            "Caught DamagedSample in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
            '  File "x.py", line 1, in <module>\nharmonizer.data.damage.DamagedSample: sample 7: cut\n'
        )

    with pytest.raises(SystemExit):
        fail()
    assert capsys.readouterr().err.partition(": ")[2] == "error: sample 7: cut\n"


def test_a_bare_option_suggests_a_switch_or_a_value():
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
def test_a_value_of_the_wrong_type_is_named(capsys, monkeypatch, words, named):
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
        f"train.py: error: {named} a value of the wrong type ('<' not supported between instances of 'str' and 'int')\n"
    )
    assert capsys.readouterr().err == expected
