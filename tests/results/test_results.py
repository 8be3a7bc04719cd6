"""Results folders: a round trip, replacement, and how they are found."""

import json
import math
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from results_folder import NAN, edit, row, rows, summary

from harmonizer.results import (
    FAILURES,
    OpenRows,
    creation_time,
    find_results,
    folder_name,
    load_failures,
    load_results,
    protocol_hash,
    read_rows,
    write_results,
    write_rows,
)
from harmonizer.statistics import Status


def test_written_results_are_read_back_exactly(folder, examples):
    results = load_results(folder)
    assert results.name == "tiny"
    assert results.summary["feature_alignment"]["n"] == 0
    assert math.isnan(results.summary["feature_alignment"]["mean"])
    assert results.summary["tolerance"]["median"]["value"] == math.inf
    assert results.summary["health"]["zero_gradients"] == 0.5
    assert results.summary["model"]["checkpoint"] is None
    assert results.columns["key"].tolist() == ["a,b", "ü", "c", "d"]
    assert results.columns["status"].tolist() == [Status.FOUND, Status.WRONG, Status.CENSORED, Status.FAILED]
    np.testing.assert_array_equal(results.columns["l2"], [1 / 3, NAN, NAN, NAN])  # exactly
    np.testing.assert_array_equal(results.columns["alignment"], [NAN, 0, 0, 0])
    for name, array in examples.items():
        np.testing.assert_array_equal(results.examples[name], array)


def test_summary_is_strict_json(folder):
    text = (folder / "summary.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["tolerance"]["median"]["value"] == "inf"


def test_equal_results_are_written_as_equal_bytes(folder, tmp_path, examples):
    write_results(tmp_path / "again", summary(), rows(), examples)
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_results_are_replaced_only_with_overwrite(folder):
    with pytest.raises(FileExistsError, match="holds results already; add overwrite=true"):
        write_results(folder, summary(), rows())
    write_results(folder, summary(device="cuda"), rows(), overwrite=True)
    assert load_results(folder).summary["device"] == "cuda"
    assert load_results(folder).examples == {}
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_folder_of_other_files_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    (tmp_path / "thesis" / "summary.json").write_text('{"version": 1, "words": 80000}')  # of another program
    with pytest.raises(FileExistsError, match=r"holds chapter.txt, which evaluate.py did not write"):
        write_results(tmp_path / "thesis", summary(), rows(), overwrite=True)
    (tmp_path / "thesis" / "chapter.txt").unlink()
    with pytest.raises(FileExistsError, match=r"holds no summary.json of evaluate.py"):
        write_results(tmp_path / "thesis", summary(), rows(), overwrite=True)
    assert "80000" in (tmp_path / "thesis" / "summary.json").read_text()


def test_an_unknown_file_next_to_results_prevents_overwriting(folder):
    (folder / "note.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=r"holds note.txt, which evaluate.py did not write; move it away"):
        write_results(folder, summary(), rows(), overwrite=True)
    assert (folder / "note.txt").read_text() == "precious"


def test_behaviour_next_to_results_is_kept(folder, tmp_path):
    (folder / "behaviour.json").write_text("{}")
    (folder / "answers.csv").write_text("subj\n")
    write_results(folder, summary(device="cuda"), rows(), overwrite=True)
    assert load_results(folder).summary["device"] == "cuda"
    assert ((folder / "behaviour.json").read_text(), (folder / "answers.csv").read_text()) == ("{}", "subj\n")
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "behaviour.json").write_text("{}")  # measured before the rest
    write_results(tmp_path / "first", summary(), rows())
    assert (tmp_path / "first" / "behaviour.json").read_text() == "{}"
    with pytest.raises(FileExistsError, match="add overwrite=true"):
        write_results(tmp_path / "first", summary(), rows())


def test_results_are_kept_if_replacing_them_fails(folder, monkeypatch):
    replace = Path.replace

    def fail(self, target):
        if ".new" in self.name:
            raise OSError("no space left")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_results(folder, summary(device="cuda"), rows(), overwrite=True)
    assert load_results(folder).summary["device"] == summary()["device"]
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_complete_results_are_found_at_any_depth(folder, tmp_path):
    write_results(tmp_path / "deep" / "er" / "two", summary(), rows())
    (tmp_path / ".three.new1").mkdir()
    (tmp_path / ".three.new1" / "summary.json").write_text("{")
    assert find_results([tmp_path, folder]) == [tmp_path / "deep" / "er" / "two", folder]
    assert find_results([folder]) == [folder]


def test_linked_results_are_found_once_despite_link_loops(folder, tmp_path):
    place = tmp_path / "collected"
    place.mkdir()
    (place / "one").symlink_to(folder)
    (place / "two").symlink_to(folder)  # the same
    (place / "up").symlink_to(tmp_path)
    (place / "itself").symlink_to(place)
    assert find_results([place]) == [place / "one"]
    (folder.parent / FAILURES).mkdir()
    (folder.parent / FAILURES / "x.json").write_text('{"model": "x", "reason": "y"}')
    assert load_failures([place]) == {"x": "y"}


@pytest.mark.parametrize("key", ["=1+2", "+1", "-1.jpg", "@SUM(1)", "'=1", "'quoted'", "plain"])
def test_a_key_is_not_a_formula_and_round_trips(tmp_path, key):
    write_rows(tmp_path / "images.csv", [row(key)])
    cell = (tmp_path / "images.csv").read_text().splitlines()[1].split(",")[0]
    assert cell[0] not in "=+-@"
    with closing(OpenRows(tmp_path / "images.csv")) as table:
        assert table.done["key"].tolist() == read_rows(tmp_path / "images.csv")["key"].tolist() == [key]
        with pytest.raises(ValueError, match="every key once"):
            table.append([row(key)])


def test_old_intervals_of_few_images_become_nan(folder):
    for path in (("tolerance", "paper_mean"), ("tolerance", "median"), ("accuracy",)):
        edit(folder, (*path, "low"), 0.1)
    summary = load_results(folder).summary
    assert math.isnan(summary["tolerance"]["paper_mean"]["low"]) and math.isnan(summary["tolerance"]["median"]["low"])
    assert summary["tolerance"]["paper_mean"]["mean"] == 1 / 3
    assert summary["accuracy"]["low"] == 0.1  # Wilson interval, valid for any number of images
    edit(folder, ("accuracy", "value"), 1.0)
    edit(folder, ("accuracy", "se"), 0.0)
    assert math.isnan(load_results(folder).summary["accuracy"]["se"])
    edit(folder, ("tolerance", "paper_mean", "n"), 10)
    assert load_results(folder).summary["tolerance"]["paper_mean"]["low"] == 0.1


def test_missing_results_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_results([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match="no results in"):
        find_results([tmp_path])
    with pytest.raises(FileNotFoundError, match=r"summary\.json"):
        load_results(tmp_path)


def test_folder_names_are_safe_stable_and_distinct():
    names = ["resnet50", "a/b", "a:b", "a b", "..", "../../etc", "<script>", "ü", "x" * 300, "x" * 301, ".hidden"]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[0] == "resnet50"
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,120}", folder) for folder in folders)
    with pytest.raises(ValueError, match="empty"):
        folder_name("")


def test_protocol_hash_covers_every_setting_in_any_order():
    base = {"attack": "ddn", "settings": {"steps": 60, "targets": 5}, "eps_max": 10.0}
    assert protocol_hash(base) == protocol_hash(dict(reversed(base.items())))
    assert protocol_hash(base) != protocol_hash(base | {"eps_max": 9.0})
    assert protocol_hash(base) != protocol_hash(base | {"settings": {"steps": 61, "targets": 5}})


def test_creation_time_can_be_fixed(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert creation_time() == "1970-01-01T00:00:00Z"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert creation_time() > "2026"


def test_results_and_statistics_do_not_import_torch():
    code = "import sys, harmonizer.results, harmonizer.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unmeasured_numbers_are_read_as_nan_in_all_blocks(tmp_path):
    from harmonizer.results.schema import numbers

    content = {"robust_accuracy": {"label": "x", "budgets": [{"eps": 0.5, "value": None}]}, "as_published": None}
    read = numbers(content)
    assert math.isnan(read["robust_accuracy"]["budgets"][0]["value"])
    assert read["as_published"] is None
