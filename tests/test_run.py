"""A run folder belongs to one run."""

import json

import pytest

from harmonizer.run import LAST, PREVIOUS, RANKS, SETTINGS, claim

RUN = {"module": {"lr": 0.1}, "data": {"seed": 0}, "trainer": {"devices": 1}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "runs" / "one"


def test_a_new_run_starts_and_the_same_goes_on(folder):
    claim(folder, RUN)
    assert json.loads((folder / SETTINGS).read_text()) == RUN
    (folder / LAST).touch()
    claim(folder, RUN)
    claim(folder, RUN | {"trainer": {"devices": 8}, "data": RUN["data"] | {"num_workers": 4}})
    assert json.loads((folder / SETTINGS).read_text()) == RUN


@pytest.mark.parametrize("last", [LAST, PREVIOUS])
def test_another_run_is_refused_once_there_is_a_checkpoint(folder, last):
    claim(folder, RUN)
    other = RUN | {"module": {"lr": 0.2}}
    claim(folder, other)  # nothing to lose yet
    (folder / last).touch()
    with pytest.raises(FileExistsError, match=r"with other module.lr \(0.2 -> 0.1\); add overwrite=true"):
        claim(folder, RUN)
    assert (folder / last).exists()
    claim(folder, RUN, overwrite=True)
    assert not (folder / last).exists()


def test_a_folder_of_something_else_is_refused_even_when_overwriting(folder):
    folder.mkdir(parents=True)
    (folder / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="files that are no run"):
            claim(folder, RUN, overwrite=overwrite)
    assert (folder / "thesis.tex").exists()


@pytest.mark.parametrize("name", RANKS)
def test_other_processes_change_nothing(folder, monkeypatch, name):
    claim(folder, RUN)
    (folder / LAST).touch()
    monkeypatch.setenv(name, "1")
    claim(folder, RUN | {"module": {"lr": 0.2}}, overwrite=True)
    assert (folder / LAST).exists()
    assert json.loads((folder / SETTINGS).read_text()) == RUN


def test_settings_inside_a_part_count_too(folder):
    exact = RUN | {"trainer": {"devices": 1, "precision": "32-true"}}
    claim(folder, exact)
    (folder / LAST).touch()
    with pytest.raises(FileExistsError, match=r"trainer.precision \(32-true -> bf16-mixed\)"):
        claim(folder, RUN | {"trainer": {"devices": 1, "precision": "bf16-mixed"}})
