"""Both spellings of the command line."""

import functools
import importlib.metadata
import itertools
import sys

import hydra
import pytest

from harmonizer import __version__
from harmonizer.cli import clear_errors, command_line, translate, unquoted
from harmonizer.cli.suggest import DERIVED, known_settings, nearest_settings, unknown_choice, unknown_setting

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


# What a path or a name may look like, and Hydra would take for something else.
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
def test_translation_and_its_idempotence(words, expected):
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
def test_a_path_or_a_name_arrives_as_text(text, program, more, keys):
    words = translate([*more, *(word for key in keys for word in (f"--{key}", text))])
    assert translate(words) == words
    with hydra.initialize(version_base="1.3", config_path="../../configs"):
        config = hydra.compose(program, words)
    for key in keys:
        assert functools.reduce(lambda part, name: part[name], key.split("."), config) == text


def test_a_list_of_models_may_lie_anywhere():
    with hydra.initialize(version_base="1.3", config_path="../../configs"):
        assert hydra.compose("evaluate", translate(["--sweep", "[a]/x y.yaml"])).sweep.file == "[a]/x y.yaml"


def test_an_empty_text_is_none():
    with hydra.initialize(version_base="1.3", config_path="../../configs"):
        config = hydra.compose("train", translate(translate(["--weights", ""])))
    assert config.weights is None


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
    ("train", "data.folder=x", "it goes with --data folder or --data mixed"),
    ("train", "experimant=demo_pair", "did you mean experiment=demo_pair?"),
    ("train", "zzzz=1", "there is no setting zzzz; --cfg job shows all"),
    ("evaluate", "--batch-size 4", "did you mean data.eval_batch_size=4?"),
    ("evaluate", "recipe.lr=1", "no setting recipe.lr in evaluate.py; did you mean train.py recipe.lr=1?"),
    ("train", "--experiment demo_par", "expected experiment of demo_pair, "),
    ("train", "--experiment demo_par", "got 'demo_par'; try experiment=demo_pair"),
    ("evaluate", "--experiment demo_par", "did you mean train.py experiment=demo_pair?"),
    ("train", "--data imagenet", "got 'imagenet'; try --data folder data.folder=FOLDER for data of your own"),
    ("evaluate", "--data imagenet", "got 'imagenet'; try --data folder data.folder=FOLDER for data of your own"),
    ("train", "--recipe fel2023", "expected recipe of fel2022, "),
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
    ("evaluate", "ckpt=https://x.org/a.ckpt", "a checkpoint on this machine, got https://x.org/a.ckpt; download it"),
    ("evaluate", "ckpt=null", "no checkpoint at null"),
    ("train", "recipe.lr=[1", "expected a value that can be read, got recipe.lr=[1"),
    ("train", "--data folder", "expected data.folder=FOLDER, got none"),
    ("evaluate", "--data folder --model test_vit", "expected data.folder=FOLDER, got none"),
    ("train", "--data mixed", "expected data.sources.clickme.folder=FOLDER, got none"),
    ("train", "folder=${nope}", "nope"),
    ("train", "images=0", "expected images of at least 1, or null, got 0"),
    ("train", "every_n_epochs=-1", "expected every_n_epochs of at least 0, got -1"),
    ("train", "data.num_workers=-1", "expected data.num_workers of at least 0, or null for one per core, got -1"),
    ("train", "recipe.lr=fast", "expected recipe.lr to be a number, got 'fast'"),
    ("train", "recipe.batch_size=1.5", "expected recipe.batch_size to be a whole number, got 1.5"),
    ("train", "~recipe", "expected a setting recipe.batch_size, which others take their value from, got none; try the"),
    ("train", "experiment=[demo_par]", "got 'demo_par'; try experiment=demo_pair"),
    ("evaluate", "--model A --ckpt B", "expected either ckpt=FILE or model=NAME, got both: ckpt=B and model=A"),
    ("evaluate", "images=4", "expected either ckpt=FILE or model=NAME, got neither"),
    ("train", f"folder={__file__} --model test_resnet", f"expected a folder at {__file__}, got a file; choose another"),
    ("evaluate", f"results={__file__} --model test_resnet", f"expected a folder at {__file__}, got a file; choose"),
    ("train", "recipe.warmup_epochs=100 --model test_resnet", "expected warmup_epochs of at most the training's 5 ep"),
    ("train", "recipe.levels=50 --model test_resnet --harmonize", "expected at most 6 pyramid levels at 32 x 32 pix"),
]


@pytest.mark.parametrize(("program", "line", "message"), SLIPS)
def test_a_slip_ends_in_one_useful_line(program, line, message, tmp_path, monkeypatch, capsys):
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
    assert not list(tmp_path.iterdir()) or program == "evaluate"  # which has locked the label


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
        assert f"expected {group} of " in error and f"got {name!r}" in error


def test_a_suggestion_is_a_setting():
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


def test_settings_of_another_choice_and_program_are_told_apart():
    assert "recipe.lr" in known_settings("train")
    assert known_settings("train")["data.mixup"] == ("data folder", "data mixed")
    assert known_settings("train")["trainer.precision"] == ("trainer auto", "trainer ddp", "trainer slurm")
    assert unknown_setting("x", "export") == "there is no setting x; --cfg job shows all"
    assert unknown_choice("trainer", "zzz", ["auto"]) == "expected trainer of auto, got 'zzz'"


def test_the_version_is_ours_with_the_libraries(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--harmonize", "--version"])
    command_line(lambda: pytest.fail("started"))
    versions = {name: importlib.metadata.version(name) for name in ("torch", "lightning", "timm")}
    expected = ", ".join([f"harmonizer {__version__}", *(f"{name} {text}" for name, text in versions.items())])
    assert capsys.readouterr().out == f"{expected}\n"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install -U 'wandb>=0.12.10'`", "wandb"),
        ("Neither `tensorboard` nor `tensorboardX` is available. Try `pip install`ing either.", "tensorboard"),
        ("No module named 'adv_lib'", "adv-lib (with setuptools below 81; see benchmarks/README.md)"),
        ("No module named 'foolbox'", "foolbox"),
    ],
)
def test_a_missing_extra_is_one_line_with_the_command(text, command, capsys, monkeypatch):
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
