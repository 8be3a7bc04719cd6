"""The table of a results folder: appended row by row, truncated, and read back."""

import os
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from results_folder import row, rows

from harmonizer.results import COLUMNS, OpenRows, read_rows, write_rows


def test_a_table_truncated_at_any_byte_can_be_completed(tmp_path):
    write_rows(tmp_path / "whole.csv", rows())
    whole = (tmp_path / "whole.csv").read_bytes()
    for cut in range(len(whole) + 1):
        path = tmp_path / "images.csv"
        path.write_bytes(whole[:cut])
        with closing(OpenRows(path)) as table:
            done = table.done["key"].tolist()
            table.append([item for item in rows() if item.key not in done])
        assert path.read_bytes() == whole, cut


def test_a_table_accepts_each_key_once(tmp_path):
    with closing(OpenRows(tmp_path / "deep" / "images.csv")) as table:
        assert len(table.done["key"]) == 0
        table.append([row("a"), row("b")])
        for again in ([row("b")], [row("c"), row("c")]):
            with pytest.raises(ValueError, match="again"):
                table.append(again)
    with closing(OpenRows(tmp_path / "deep" / "images.csv")) as table, pytest.raises(ValueError, match="'a' again"):
        table.append([row("a")])
    assert read_rows(tmp_path / "deep" / "images.csv")["key"].tolist() == ["a", "b"]


def test_a_file_of_another_format_is_not_appended_to(tmp_path):
    (tmp_path / "images.csv").write_text("my notes\nmore\n")
    with pytest.raises(ValueError, match="expected the columns"):
        OpenRows(tmp_path / "images.csv")
    assert (tmp_path / "images.csv").read_text() == "my notes\nmore\n"


def test_appended_rows_survive_a_killed_process(tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "from harmonizer.results import OpenRows, Row\n"
        "table = OpenRows(pathlib.Path(sys.argv[1]))\n"
        "table.append([Row(key='k', label=0, prediction=0, status=0)])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "images.csv")], env=os.environ, check=False)
    assert done.returncode == -9
    assert read_rows(tmp_path / "images.csv")["key"].tolist() == ["k"]


def test_an_old_table_without_mask_columns_is_read(tmp_path):
    path = tmp_path / "images.csv"
    old = [name for name in COLUMNS if not name.startswith("alignment_")]
    path.write_text(",".join(old) + "\n" + ",".join(["a", "0", "1", "found", *["0.5"] * 6, "1", "1"]) + "\n")
    columns = read_rows(path)
    assert list(columns) == [*old, "alignment_mean_of_abs", "alignment_max_of_abs", "alignment_l2"]
    assert columns["alignment"].tolist() == [0.5]
    assert np.isnan(columns["alignment_l2"]).all()


def test_columns_of_a_later_version_are_ignored(tmp_path):
    path = tmp_path / "images.csv"
    write_rows(path, rows()[:2])
    before = read_rows(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(f"new{i},{line},=x" for i, line in enumerate(lines)) + "\n")
    after = read_rows(path)
    assert list(after) == list(before)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
    with pytest.raises(ValueError, match="expected the columns"):
        OpenRows(path)  # new rows would lack them
