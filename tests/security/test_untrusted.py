"""Lists, manifests and results are data: nothing in them is resolved, instantiated or run."""

import ast
import os
from pathlib import Path
from types import SimpleNamespace

import hydra
import numpy as np
import pytest
import torch
from shard_data import write_folder

import evaluate
from callbacks.gallery import Gallery
from configs.build import build
from harmonizer.data.shards.manifest import read_manifest
from harmonizer.evaluation.progress import Progress
from harmonizer.evaluation.summary import Outcome, Protocol
from harmonizer.evaluation.sweep_list import read_models
from harmonizer.models.weights import read_weights
from harmonizer.results import Row, Work, load_failures, load_results, read_rows, schema
from harmonizer.statistics import Status
from harmonizer.training.checkpoint_io import read_checkpoint
from harmonizer.training.module import HarmonizerModule

SECRET = "${oc.env:SECRET}"
CODE = {"_target_": "os.mkdir", "path": "made"}

ROOT = Path(__file__).parents[2]


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A working folder, with a secret in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "the-secret")
    return tmp_path


def compose(program, *overrides):
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return hydra.compose(program, list(overrides))


def test_only_configs_are_instantiated():
    """``instantiate(config, **values)`` would put values from files into the config; only ``build`` calls it."""
    for path in [*ROOT.glob("*.py"), *(ROOT / "harmonizer").rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")]:
        names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(ast.parse(path.read_text()))}
        assert not names & {"instantiate", "get_method", "get_class", "from_dotlist", "create"}, path
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / "configs/build.py").read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "instantiate"
    ]
    assert calls
    for call in calls:
        assert {keyword.arg for keyword in call.keywords} <= {"_partial_"}
        assert [getattr(argument, "id", "") for argument in call.args] == ["config"]


@pytest.mark.parametrize(
    "content",
    [
        "- model: {_target_: os.mkdir, path: made}",
        "- model: test_resnet\n  weights: {_target_: os.mkdir, path: made}",
        "- ckpt: [a, b]",
        "- model: test_resnet\n  _target_: os.mkdir",
        "- !!python/object/apply:os.mkdir [made]",
        "CNN: {family: {_target_: os.mkdir, path: made}}",
        "CNN: {CNN: [test_resnet]}",
        "- {model: test_resnet, image_size: 1000000}",
        "- {model: test_resnet, image_size: 32.5}",
        "- {model: test_resnet, pretrained: 'no'}",
        "- {model: test_resnet, label: [1]}",
        "- {model: test_resnet, label: 2024-01-01}",
        f"- {{model: test_resnet, label: {'x' * 100_000}}}",
        '- {model: test_resnet, label: "a\\nb"}',
        "models: [test_resnet]\npretrained: [1]",
        "a: &a [x, x]\nb: &b {p: *a, q: *a}\nc: &c {p: *b, q: *b}",
        "[" * 100_000,
    ],
    ids=range(17),
)
def test_entries_of_a_list_are_checked_by_type(outside, content):
    (outside / "list.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"list\.yaml.*expected|each model once") as error:
        read_models([], outside / "list.yaml")
    assert len(str(error.value)) < 500
    assert not (outside / "made").exists()


def test_a_list_on_the_command_line_is_not_instantiated(outside):
    config = compose("evaluate", "sweep.models=[{model:{_target_:os.mkdir,path:made}}]")
    with pytest.raises(Exception, match="expected a text of 1 to 500 characters"):
        build(config.sweeper, resolve_model=None, measure=None)
    assert not (outside / "made").exists()


def test_text_from_files_reaches_no_resolver(outside):
    """Covers class names of manifests, labels and models of lists and checkpoints, and families."""
    folder = write_folder(outside / "shards", train=8, val=4)
    config = compose("train", "data=folder", f"data.folder={folder}", "data.image_size=32", "model=test_resnet")
    module = build(config.module, classes=[SECRET, "b"], image_size=32)
    assert module.hparams["classes"] == [SECRET, "b"]
    config = compose("evaluate", "data=folder", f"data.folder={folder}", "data.image_size=32")
    spec = build(config.spec, model="test_resnet", image_size=32, label=SECRET)
    assert spec.label == SECRET
    writer = build(config.writer, spec=spec, family="CNN")
    assert writer.spec is spec
    assert "the-secret" not in str(writer.folder)
    for model in (SECRET, CODE):
        with pytest.raises((ValueError, TypeError, AttributeError)) as error:
            build(config.data, model=model, image_size=32)
        assert "the-secret" not in str(error.value)
    assert not (outside / "made").exists()


def test_a_sweep_does_not_resolve_a_label(outside):
    folder = write_folder(outside / "shards", train=8, val=4)
    (outside / "list.yaml").write_text(f"- {{model: test_resnet, image_size: 32, label: '{SECRET}'}}\n")
    overrides = ["data=folder", f"data.folder={folder}", "sweep.file=list.yaml", "attack=pgd", "images=2", "health=0"]
    assert evaluate.sweep(compose("evaluate", *overrides, "data.num_workers=0")) == 0
    (results,) = [path for path in (outside / "results").iterdir() if not path.name.startswith(".")]
    assert load_results(results).summary["model"]["label"] == SECRET
    assert not [path for path in outside.rglob("*") if "the-secret" in path.name]
    assert "the-secret" not in (results / "summary.json").read_text()


def test_json_from_files_is_read_in_one_place():
    for path in [*(ROOT / "harmonizer").rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")]:
        if path.name not in ("untrusted.py", "payload.py"):  # the latter reads its own text only, to round numbers
            assert "json.load" not in path.read_text(), path


@pytest.mark.parametrize("name", ["x" * 100_000, "a\nb", "\x1b[2J", "\ud800", 3])
def test_long_or_unprintable_summary_text_is_refused(name):
    with pytest.raises(ValueError, match=r"model\.label: expected text( of at most 4096|, got 3)") as error:
        check("label", name)
    assert len(str(error.value)) < 500
    check("label", "resnet50, \N{GREEK SMALL LETTER LAMDA} = 1")


@pytest.mark.parametrize("made", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir], ids=range(3))
def test_a_path_that_is_not_a_file_is_not_opened(tmp_path, made):
    """Reading a FIFO would block forever, and reading a device would never end."""
    (tmp_path / "failed").mkdir()
    for name in ("manifest.json", "summary.json", "images.csv", "last.ckpt", "w.pth", "list.yaml", "failed/a.json"):
        made(tmp_path / name)
    assert load_failures([tmp_path]) == {}
    with pytest.raises(OSError, match=r"manifest\.json is not a file"):
        read_manifest(tmp_path)
    for read in (
        lambda: load_results(tmp_path),
        lambda: read_rows(tmp_path / "images.csv"),
        lambda: read_checkpoint(tmp_path / "last.ckpt"),
        lambda: read_weights(tmp_path / "w.pth"),
        lambda: read_models([], tmp_path / "list.yaml"),
    ):
        with pytest.raises(FileNotFoundError):
            read()


def check(field, value):
    schema.check_fields({field: value}, {field: str}, "summary", "model")


def test_an_oversized_results_archive_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "examples.npz", image=np.zeros(1_000_000, np.uint8))
    assert schema.load_arrays(tmp_path / "examples.npz")["image"].shape == (1_000_000,)
    monkeypatch.setattr(schema, "MOST_BYTES", 999_999)
    with pytest.raises(ValueError, match="expected at most 999999"):
        schema.load_arrays(tmp_path / "examples.npz")


@pytest.mark.parametrize("state", ["[]", "[" * 100_000, '{"eps_max": "x"}', '{"seconds": [1]}'], ids=range(4))
def test_a_damaged_state_of_unfinished_work_is_refused(tmp_path, state):
    Work(tmp_path / "model", {"a": 1})
    (tmp_path / ".model.part/state.json").write_text(state)
    with pytest.raises(ValueError, match=r"state\.json: expected"):
        Work(tmp_path / "model", {"a": 1}).start()


@pytest.mark.parametrize("key", ["../../escaped", "a/b", "x" * 300, "$\\frac{$", ".hidden"])
def test_a_key_cannot_place_an_image_outside_its_folder(tmp_path, key, monkeypatch):
    image = torch.rand(3, 8, 8)
    progress = Progress(Protocol("pgd", {}), 1)
    progress.examples[key] = {"image": image, "adversarial": image, "human": image[0], "label": 0}
    progress.rows[key] = Row(key=key, label=0, prediction=0, status=Status.FOUND, l2=0.1)
    trainer = SimpleNamespace(is_global_zero=True, loggers=[])
    module = HarmonizerModule("test_resnet", ["$\\frac{$", "b"], 32)
    monkeypatch.setattr("callbacks.gallery.evaluation_saliency", lambda model, images, labels: images[:, 0])
    Gallery(tmp_path / "run/examples").on_evaluation_end(trainer, module, Outcome([], 0.0, 10.0), progress)
    (picture,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert picture.parent == tmp_path / "run/examples"
    assert picture.suffix == ".png"
