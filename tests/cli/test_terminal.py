"""What the user sees in terminals of 80 and 120 columns, and in a log file."""

import io
import re
import threading
from pathlib import Path

import pytest
from rich.console import Console
from shard_data import write_folder
from terminal import run_in_terminal

from callbacks.table import ROWS
from harmonizer.cli import console

ROOT = Path(__file__).parents[2]
WORDS = (
    "--model test_resnet --harmonize --data folder data.folder=shards data.image_size=32 data.num_workers=0 "
    "recipe.epochs=2 recipe.batch_size=8 --images 10"
)


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_overwritten_or_cut_and_counts_start_at_one(width, tmp_path):
    write_folder(tmp_path / "shards", train=72, val=20)  # 9 batches: fewer than trainer.log_every_n_steps
    status, lines, screens = run_in_terminal([str(ROOT / "train.py"), *WORDS.split()], width, tmp_path)
    text = "\n".join(lines)
    assert status == 0, text
    assert all(len(line) <= width for screen in screens for line in screen)
    for fact in ("model", "device", "data", "training", "validation", "recipe", "attack", "run folder"):
        assert re.search(rf"^{fact} +\S", text, re.MULTILINE), f"{fact} is not in\n{text}"
    shown = [line[2:46].rstrip() for line in lines if line.startswith("│")]
    assert shown == [title for title, _ in ROWS.values()]
    assert re.search(r"^noise ceiling: [\d.]+, as published \(Linsley et al. 2023\)$", text, re.MULTILINE)
    assert [line.split(":")[0] for line in lines if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    assert "steps/s" not in text  # the progress bars are gone
    assert "Warning" not in text
    assert "logging interval" not in " ".join(lines)
    command = (
        "next: python evaluate.py ckpt=runs/test_resnet/harmonized/seed-0/best.ckpt data=folder data.folder=shards "
    )
    assert command in "".join(lines)  # wrapped by the terminal, so that it is copied in one piece
    seen = "\n".join(line for screen in screens for line in screen)
    assert re.search(r"^epoch 2/2 step \d+/9 .*\d\d% .* left$", seen, re.MULTILINE)
    assert re.search(r"^train/cross_entropy \d\.\d{4}, train/harmonizer_loss \d\.\d{4}$", seen, re.MULTILINE)
    assert re.search(r"^attacked \d+/10 images ", seen, re.MULTILINE)
    assert "epoch 0" not in seen
    assert "…" not in seen


def test_progress_bars_start_no_thread_and_are_throttled(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(console, "console", lambda: Console(file=file, force_terminal=True, width=80))
    before = threading.active_count()
    with console.Bars() as bars:
        task = bars.task("image")
        task.update("attacked 1/3 images", 1, 3)
        assert threading.active_count() == before and "attacked 1/3 images" in file.getvalue()
        task.update("attacked 2/3 images", 2, 3)  # too soon to be drawn
        task.update("attacked 3/3 images", 3, 3)
        assert "attacked 2/3" not in file.getvalue() and "attacked 3/3 images" in file.getvalue()
        monkeypatch.setattr(console.time, "monotonic", lambda: 1e9)
        task.update("attacked 4/5 images", 4, 5)
        assert "attacked 4/5 images" in file.getvalue()


def test_a_log_file_gets_few_lines_with_rate_and_time_left(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    console.console.cache_clear()
    task = console.Bars().task("image")
    for done in range(0, 400):  # resumed at 1000 of 2000, ten images per second
        clock[0] = done / 10
        task.update(f"attacked {1000 + done}/2000 images", 1000 + done, 2000, lambda: "name")
    task.update("attacked 2000/2000 images", 2000, 2000)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["attacked 1100/2000 images: 10.0 images/s, 2 min left, name"]
    clock[0] = 100.0
    task.update("attacked 1500/2000 images", 1500, 2000)
    assert capsys.readouterr().out == "attacked 1500/2000 images: 5.0 images/s, 2 min left\n"


def test_other_ranks_print_nothing(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    console.print_rank_zero("once")
    console.print_next("python")
    task = console.Bars(shown=False).task("step")
    for second in (0.0, 100.0):
        monkeypatch.setattr(console.time, "monotonic", lambda second=second: second)
        task.update("step", second, 1000)
    assert capsys.readouterr().out == ""
