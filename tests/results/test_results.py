"""Results folders: a round trip, and every way in which one can be damaged."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harmonizer.results import (
    COLUMNS,
    FAILURES,
    creation_time,
    find_results,
    folder_name,
    load_failures,
    load_results,
    open_rows,
    protocol_hash,
    read_rows,
    write_results,
    write_rows,
)
from harmonizer.statistics import Status, mean_summary, proportion, survival, tolerance_summary

NAN = float("nan")


def row(key, status="found", **values):
    return dict.fromkeys(COLUMNS, 0) | {"key": key, "status": status, "eps": 0.1, "l2": 0.1} | values


def rows():
    return [
        row("a,b", "found", l2=1 / 3, alignment=NAN),
        row("ü", "wrong", l2=NAN),
        row("c", "censored", l2=None),
        row("d", 3, l2=NAN),
    ]


def summary(**changes):
    status, radius = [Status.FOUND, Status.WRONG, Status.CENSORED, Status.FAILED], [1 / 3, NAN, NAN, NAN]
    content = {
        "version": 1,
        "model": {
            "name": "tiny",
            "label": "Tiny",
            "family": "CNN",
            "pretrained": False,
            "checkpoint": None,
            "parameters": 9,
            "input_size": 8,
        },
        "training": None,
        "data": {"name": "demo", "manifest_sha256": "0" * 64, "samples": 4},
        "protocol": {"attack": "ddn", "settings": {"steps": 60}, "eps_max": 10.0, "images": 4, "hash": "1" * 16},
        "accuracy": proportion(np.int64(3), 4),
        "tolerance": tolerance_summary(status, radius, eps_max=10, resamples=10),
        "adversarial_alignment": None,
        "feature_alignment": mean_summary([NAN], ceiling=0.65753),
        "survival": survival(status, radius, [0, 1, 2]),
        "health": {"masked": True, "reasons": ["inf", "zero gradients"], "zero_gradients": np.float32(0.5)},
        "cost": {"forwards": 40, "backwards": 30, "seconds": 1.5},
        "software": {"harmonizer": "0.1.0"},
        "device": "cpu",
        "created": "2026-01-01T00:00:00Z",
    }
    return content | changes


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    picture, plane = rng.random((2, 3, 8, 8), np.float32), rng.random((2, 8, 8), np.float32)
    return {"keys": np.array(["a,b", "c"]), "image": picture, "adversarial": picture, "human": plane, "saliency": plane}


@pytest.fixture
def folder(tmp_path, examples):
    write_results(tmp_path / "tiny", summary(), rows(), examples)
    return tmp_path / "tiny"


def test_everything_comes_back(folder, examples):
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


def test_the_same_results_are_the_same_bytes(folder, tmp_path, examples):
    write_results(tmp_path / "again", summary(), rows(), examples)
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_results_are_replaced_only_when_asked(folder):
    with pytest.raises(FileExistsError, match="holds results already; add overwrite=true"):
        write_results(folder, summary(), rows())
    write_results(folder, summary(device="cuda"), rows(), overwrite=True)
    assert load_results(folder).summary["device"] == "cuda"
    assert load_results(folder).examples == {}
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    (tmp_path / "thesis" / "summary.json").write_text('{"version": 1, "words": 80000}')  # of another program
    with pytest.raises(FileExistsError, match=r"holds chapter.txt, which evaluate.py did not write"):
        write_results(tmp_path / "thesis", summary(), rows(), overwrite=True)
    (tmp_path / "thesis" / "chapter.txt").unlink()
    with pytest.raises(FileExistsError, match=r"holds no summary.json of evaluate.py"):
        write_results(tmp_path / "thesis", summary(), rows(), overwrite=True)
    assert "80000" in (tmp_path / "thesis" / "summary.json").read_text()


def test_a_note_next_to_results_is_not_lost(folder):
    (folder / "note.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=r"holds note.txt, which evaluate.py did not write; move it away"):
        write_results(folder, summary(), rows(), overwrite=True)
    assert (folder / "note.txt").read_text() == "precious"


def test_results_stay_when_the_new_ones_cannot_take_their_place(folder, monkeypatch):
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


@pytest.mark.parametrize(
    ("change", "content", "message"),
    [
        (summary(version=9), None, "field version: expected 1, got 9"),
        (summary(device=None), None, "field device: expected text, got None"),
        (summary(accuracy={"value": 1.0}), None, "field accuracy.se: missing"),
        (summary(), rows()[:3], "expected 1 failed images as in summary.json, got 0"),
        (summary(), [*rows()[:3], {"key": "x"}], "is missing"),
        (summary(), [*rows()[:3], row("a,b", "failed")], "'a,b' more than once"),
        (summary(), [row("x", "lost")], "status to be one of wrong"),
        (summary(), [row("x\n", "found")], "printable"),
        (summary(), [row("x", l2=math.inf)], "expected l2 to be a finite float"),
        (summary(), [row("x", label=0.5)], "expected label to be a finite int"),
    ],
)
def test_malformed_results_are_refused_and_leave_nothing_behind(tmp_path, change, content, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_results(tmp_path / "tiny", change, rows() if content is None else content)
    assert list(tmp_path.iterdir()) == []


def edit(folder, path, value):
    content = json.loads((folder / "summary.json").read_text())
    block = content
    for key in path[:-1]:
        block = block[key]
    if value is ...:
        del block[path[-1]]
    else:
        block[path[-1]] = value
    (folder / "summary.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["tolerance"], ..., "field tolerance: missing"),
        (["tolerance", "median", "low"], ..., "field tolerance.median.low: missing"),
        (["tolerance", "n_found"], "7", "field tolerance.n_found: expected a count"),
        (["tolerance", "n_found"], 7, "field tolerance.n: expected 10"),
        (["tolerance", "n"], True, "field tolerance.n: expected a count"),
        (["model"], [], "field model: expected fields name"),
        (["model", "name"], 3, "field model.name: expected text"),
        (["survival", "share"], [1.0], "field survival.share: expected 3 values"),
        (["health", "masked"], "no", "field health.masked: expected true or false"),
        (["protocol", "eps_max"], [10], "field protocol.eps_max: expected a number"),
        (["version"], "1", "field version"),
    ],
)
def test_a_damaged_summary_names_file_and_field(folder, path, value, message):
    edit(folder, path, value)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_results(folder)
    assert str(folder / "summary.json") in str(error.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"version": NaN}', b"\xff\xfe", b'{"version": 1'])
def test_a_torn_summary_names_the_file(folder, text):
    (folder / "summary.json").write_bytes(text)
    with pytest.raises(ValueError, match="summary"):
        load_results(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("censored", "lost", "line 4, column status: expected one of wrong"),
        ("0.3333333333333333", "a third", "line 2, column l2: expected a finite float"),
        ("0.3333333333333333", "inf", "line 2, column l2: expected a finite float"),
        ("ü,0,", "ü,,", "line 3, column label: expected a finite int"),
        ("c,0,0", "c,0", "line 4: expected 15 cells, got 14"),
        ("c,0,", "\x1b[2J,0,", "line 4, column key: expected a printable name"),
        ("key,", "name,", "line 1: expected the columns key"),
        ("c,", "ü,", "'ü' more than once"),
        ("censored", "wrong", "expected 1 wrong images as in summary.json, got 2"),
    ],
)
def test_a_damaged_table_names_line_and_column(folder, old, new, message):
    path = folder / "images.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        _ = load_results(folder).columns
    assert str(path) in str(error.value)


def test_examples_that_are_a_pipe_are_not_opened(folder):
    (folder / "examples.npz").unlink()
    os.mkfifo(folder / "examples.npz")
    with pytest.raises(ValueError, match=r"examples\.npz: .*it is not a file"):
        _ = load_results(folder).examples


def test_an_image_has_at_least_one_pixel(folder):
    edit(folder, ("model", "input_size"), 0)
    with pytest.raises(ValueError, match=r"model\.input_size: expected at least 1 pixel"):
        load_results(folder)


def test_examples_are_never_unpickled(folder, examples):
    np.savez(folder / "examples.npz", **examples | {"keys": np.array([print, print], dtype=object)})
    with pytest.raises(ValueError, match=r"examples\.npz"):
        _ = load_results(folder).examples


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"human": np.zeros((2, 4, 4))}, "array human: expected shape (2, 8, 8)"),
        ({"saliency": np.full((2, 8, 8), NAN)}, "array saliency: expected finite"),
        ({"image": np.zeros((2, 3, 8, 8), np.uint8)}, "array image: expected floats, got uint8"),
        ({"image": np.zeros(3)}, "array image: expected shape"),
    ],
)
def test_damaged_examples_name_the_array(folder, examples, change, message):
    np.savez(folder / "examples.npz", **examples | change)
    with pytest.raises(ValueError, match=re.escape(message)):
        _ = load_results(folder).examples


def test_a_torn_archive_names_the_file(folder):
    path = folder / "examples.npz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"examples\.npz"):
        _ = load_results(folder).examples


def test_results_are_found_at_any_depth_but_not_half_written_ones(folder, tmp_path):
    write_results(tmp_path / "deep" / "er" / "two", summary(), rows())
    (tmp_path / ".three.new1").mkdir()
    (tmp_path / ".three.new1" / "summary.json").write_text("{")
    assert find_results([tmp_path, folder]) == [tmp_path / "deep" / "er" / "two", folder]
    assert find_results([folder]) == [folder]


def test_linked_results_are_found_once_and_a_link_back_up_is_no_trap(folder, tmp_path):
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
def test_a_key_is_no_formula_in_the_file_and_comes_back_as_it_was(tmp_path, key):
    write_rows(tmp_path / "images.csv", [row(key)])
    cell = (tmp_path / "images.csv").read_text().splitlines()[1].split(",")[0]
    assert cell[0] not in "=+-@"
    with open_rows(tmp_path / "images.csv") as table:
        assert table.done["key"].tolist() == read_rows(tmp_path / "images.csv")["key"].tolist() == [key]
        with pytest.raises(ValueError, match="every key once"):
            table.append([row(key)])


@pytest.mark.parametrize("number", ["9" * 30, "-" + "9" * 19, "1e400"])
def test_a_number_that_no_column_holds_names_its_line(folder, number):
    table = (folder / "images.csv").read_text().replace("\nc,0,", f"\nc,{number},")
    (folder / "images.csv").write_text(table)
    with pytest.raises(ValueError, match=r"images\.csv, line 4, column label: expected a finite int, got"):
        _ = load_results(folder).columns
    for value in (10**30, math.inf):
        with pytest.raises(ValueError, match="expected label to be a finite int"):
            write_rows(folder / "images.csv", [row("x", label=value)])
    edit(folder, ("accuracy", "value"), 10**400)
    with pytest.raises(ValueError, match=r"field accuracy\.value: expected a number, got 1000"):
        load_results(folder)


def test_intervals_of_few_images_in_old_results_are_left_out(folder):
    for path in (("tolerance", "paper_mean"), ("tolerance", "median"), ("accuracy",)):
        edit(folder, (*path, "low"), 0.1)
    summary = load_results(folder).summary
    assert math.isnan(summary["tolerance"]["paper_mean"]["low"]) and math.isnan(summary["tolerance"]["median"]["low"])
    assert summary["tolerance"]["paper_mean"]["mean"] == 1 / 3
    assert summary["accuracy"]["low"] == 0.1  # Wilson's, right for any number
    edit(folder, ("accuracy", "value"), 1.0)
    edit(folder, ("accuracy", "se"), 0.0)
    assert math.isnan(load_results(folder).summary["accuracy"]["se"])
    edit(folder, ("tolerance", "paper_mean", "n"), 10)
    assert load_results(folder).summary["tolerance"]["paper_mean"]["low"] == 0.1


def test_no_results_is_said(tmp_path):
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


def test_protocol_hash_depends_on_every_setting_and_on_no_order():
    base = {"attack": "ddn", "settings": {"steps": 60, "targets": 5}, "eps_max": 10.0}
    assert protocol_hash(base) == protocol_hash(dict(reversed(base.items())))
    assert protocol_hash(base) != protocol_hash(base | {"eps_max": 9.0})
    assert protocol_hash(base) != protocol_hash(base | {"settings": {"steps": 61, "targets": 5}})


def test_creation_time_can_be_fixed(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert creation_time() == "1970-01-01T00:00:00Z"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert creation_time() > "2026"


def test_neither_results_nor_statistics_nor_report_need_torch():
    code = "import sys, harmonizer.results, harmonizer.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_measured_reads_back_as_nan_in_the_later_blocks_too(tmp_path):
    from harmonizer.results.schema import numbers

    content = {"robust_accuracy": {"label": "x", "budgets": [{"eps": 0.5, "value": None}]}, "as_published": None}
    read = numbers(content)
    assert math.isnan(read["robust_accuracy"]["budgets"][0]["value"])
    assert read["as_published"] is None
