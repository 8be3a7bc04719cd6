"""A run folder belongs to one run."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harmonizer.run import BEST, LAST, LOCK, LOG, MARK, PREVIOUS, RANKS, SETTINGS, create_run_dir

ROOT = Path(__file__).parents[2]
RUN = {"module": {"lr": 0.1}, "data": {"seed": 0}, "trainer": {"devices": 1}}
MARKED = {MARK: True} | RUN


def enter(folder, settings, **options):
    with create_run_dir(folder, settings, **options):
        pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "runs" / "one"


def test_a_new_run_starts_and_the_same_run_resumes(folder):
    enter(folder, RUN)
    assert json.loads((folder / SETTINGS).read_text()) == MARKED
    (folder / LAST).touch()
    enter(folder, RUN)
    enter(folder, RUN | {"trainer": {"devices": 8}, "data": RUN["data"] | {"num_workers": 4}})
    assert json.loads((folder / SETTINGS).read_text()) == MARKED


@pytest.mark.parametrize("last", [LAST, PREVIOUS])
def test_another_run_is_refused_once_a_checkpoint_exists(folder, last):
    enter(folder, RUN)
    other = RUN | {"module": {"lr": 0.2}}
    enter(folder, other)  # no checkpoint to lose yet
    (folder / last).touch()
    with pytest.raises(FileExistsError, match=r"with other module.lr \(0.2 -> 0.1\); add overwrite=true"):
        enter(folder, RUN)
    assert (folder / last).exists()
    enter(folder, RUN, overwrite=True)
    assert not (folder / last).exists()


def test_a_folder_that_is_not_a_run_is_never_overwritten(folder):
    folder.mkdir(parents=True)
    (folder / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="files that are not a run"):
            enter(folder, RUN, overwrite=overwrite)
    assert (folder / "thesis.tex").exists()


@pytest.mark.parametrize("name", RANKS)
def test_other_ranks_change_nothing(folder, monkeypatch, name):
    enter(folder, RUN)
    (folder / LAST).touch()
    monkeypatch.setenv(name, "1")
    enter(folder, RUN | {"module": {"lr": 0.2}}, overwrite=True)
    assert (folder / LAST).exists()
    assert json.loads((folder / SETTINGS).read_text()) == MARKED


def test_nested_settings_are_compared_too(folder):
    exact = RUN | {"trainer": {"devices": 1, "precision": "32-true"}}
    enter(folder, exact)
    (folder / LAST).touch()
    with pytest.raises(FileExistsError, match=r"trainer.precision \(32-true -> bf16-mixed\)"):
        enter(folder, RUN | {"trainer": {"devices": 1, "precision": "bf16-mixed"}})


FOREIGN = {
    "timm": {"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": {}},
    "a list": [1, 2],
    "marked otherwise": {MARK: "yes"},
    "nested": {"module": {"module": {"_target_": "harmonizer.module.HarmonizerModule"}}},
}


@pytest.mark.parametrize("content", [json.dumps(value) for value in FOREIGN.values()] + ["{", "[" * 100_000, "\xff"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_another_programs_config_does_not_mark_a_run(folder, content, overwrite):
    folder.mkdir(parents=True)
    (folder / SETTINGS).write_bytes(content.encode("latin-1"))
    (folder / "model.safetensors").write_text("weights")
    with pytest.raises(FileExistsError, match="files that are not a run"):
        enter(folder, RUN, overwrite=overwrite)
    assert (folder / SETTINGS).read_bytes() == content.encode("latin-1")
    assert sorted(path.name for path in folder.iterdir()) == [SETTINGS, "model.safetensors"]


def test_overwriting_removes_only_files_that_a_run_wrote(folder, tmp_path):
    enter(folder, RUN)
    elsewhere = tmp_path / "pictures"
    elsewhere.mkdir()
    written = [
        LAST,
        PREVIOUS,
        BEST,
        f"{LAST}.damaged",
        LOG,
        "logs/tensorboard/events.out.tfevents.1.host",
        "examples/s1.png",
    ]
    kept = ["notes.txt", "export/config.json", "logs/mine.csv", "best-of-all.ckpt", "wandb/run-1/files/config.yaml"]
    for name in [*written, *kept]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    enter(folder, RUN | {"module": {"lr": 0.2}}, overwrite=True)
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {SETTINGS, LOCK, *kept}
    assert not (folder / "examples").exists()
    (elsewhere / "holiday.png").touch()
    (folder / "examples").symlink_to(elsewhere)
    enter(folder, RUN, overwrite=True)
    assert (elsewhere / "holiday.png").exists()


def test_a_run_of_an_earlier_version_resumes_without_a_mark(folder):
    folder.mkdir(parents=True)
    old = RUN | {"module": {"_target_": "harmonizer.module.HarmonizerModule", "lr": 0.1}}
    (folder / SETTINGS).write_text(json.dumps(old))
    (folder / LAST).touch()
    enter(folder, old)
    with pytest.raises(FileExistsError, match="holds another run"):
        enter(folder, old | {"data": {"seed": 1}})
    assert json.loads((folder / SETTINGS).read_text()) == old
    enter(folder, old, overwrite=True)
    assert not (folder / LAST).exists()


def test_a_renamed_setting_counts_as_the_same_setting(folder):
    old, new = (RUN | {"data": RUN["data"] | {name: 2}} for name in ("window", "shuffle_window_shards"))
    enter(folder, old)
    (folder / LAST).touch()
    enter(folder, new)
    with pytest.raises(FileExistsError, match=r"shuffle_window_shards \(2 -> 3\)"):
        enter(folder, RUN | {"data": RUN["data"] | {"shuffle_window_shards": 3}})


def test_a_run_that_predates_a_setting_resumes(folder):
    old = RUN | {"module": {"lr": 0.1}}
    enter(folder, old)
    (folder / LAST).touch()
    enter(folder, old | {"module": {"lr": 0.1, "adversarial": "none", "adversarial_eps": 0.5, "trades_beta": 6.0}})
    with pytest.raises(FileExistsError, match=r"module.adversarial \(none -> pgd\)"):
        enter(folder, old | {"module": {"lr": 0.1, "adversarial": "pgd"}})


HOLD = """
import sys, time
from pathlib import Path
from harmonizer.run import create_run_dir
with create_run_dir(Path(sys.argv[1]), {}):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_run_locks_its_folder_until_its_process_ends(folder):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert holder.stdout.readline() == b"held\n"
        host = re.escape(socket.gethostname().split(".")[0])
        expected = rf"{re.escape(str(folder))} is in use by process {holder.pid} on {host} since 20.*; wait"
        for overwrite in (False, True):
            with pytest.raises(BlockingIOError, match=expected):
                enter(folder, RUN, overwrite=overwrite)
        assert json.loads((folder / SETTINGS).read_text()) == {MARK: True}
        holder.kill()
        holder.wait()
        enter(folder, RUN)
        assert json.loads((folder / SETTINGS).read_text()) == MARKED
    finally:
        holder.kill()
        holder.communicate()


def test_the_next_run_removes_the_files_of_a_killed_save(folder):
    enter(folder, RUN)
    for name in (f".{LAST}.part", f".{LAST}.node-7-1234", f".{BEST}.node-7-1234", ".notes"):
        (folder / name).touch()
    enter(folder, RUN)
    assert sorted(path.name for path in folder.iterdir()) == [LOCK, ".notes", SETTINGS]


def test_a_symlink_in_place_of_the_lock_is_not_followed(folder, tmp_path):
    enter(folder, RUN)
    (folder / LOCK).unlink()
    (tmp_path / "precious").write_text("mine")
    (folder / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError):
        enter(folder, RUN)
    assert (tmp_path / "precious").read_text() == "mine"
