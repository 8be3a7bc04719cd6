"""Damaged results folders: each error is one line that names the file and the field."""

import math
import os
import re

import numpy as np
import pytest
from results_folder import NAN, edit, row, rows, summary

from harmonizer.results import (
    load_results,
    write_results,
    write_rows,
)
from harmonizer.statistics import Status


@pytest.mark.parametrize(
    ("change", "content", "message"),
    [
        (summary(version=9), None, "field version: expected 1, got 9"),
        (summary(device=None), None, "field device: expected text, got None"),
        (summary(accuracy={"value": 1.0}), None, "field accuracy.se: missing"),
        (summary(), rows()[:3], "expected 1 failed images as in summary.json, got 0"),
        (summary(), [*rows()[:3], row("a,b", Status.FAILED)], "'a,b' more than once"),
        (summary(), [row("x", 7)], "status to be one of wrong"),
        (summary(), [row("x\n")], "printable"),
        (summary(), [row("x", l2=math.inf)], "expected l2 to be a finite float"),
        (summary(), [row("x", label=0.5)], "expected label to be a finite int"),
    ],
)
def test_malformed_results_are_refused_and_leave_no_files(tmp_path, change, content, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_results(tmp_path / "tiny", change, rows() if content is None else content)
    assert list(tmp_path.iterdir()) == []


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
def test_an_unreadable_summary_names_the_file(folder, text):
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


def test_a_pipe_in_place_of_examples_is_not_opened(folder):
    (folder / "examples.npz").unlink()
    os.mkfifo(folder / "examples.npz")
    with pytest.raises(ValueError, match=r"examples\.npz: .*it is not a file"):
        _ = load_results(folder).examples


def test_the_input_size_is_at_least_one_pixel(folder):
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


def test_a_truncated_archive_names_the_file(folder):
    path = folder / "examples.npz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"examples\.npz"):
        _ = load_results(folder).examples


@pytest.mark.parametrize("number", ["9" * 30, "-" + "9" * 19, "1e400"])
def test_a_number_out_of_range_names_its_line(folder, number):
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
