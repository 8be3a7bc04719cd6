"""Conversions of raw clicks in subprocesses: killed and resumed, and of a million clicks."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import programs
import pytest
from PIL import Image
from shard_data import contents

from harmonizer.data.demo.raw_clicks import write_raw_clicks
from harmonizer.data.shards.manifest import read_manifest

MOST_MEMORY = 2 << 30  # bytes
MEASURED = """import resource, sys
from harmonizer.data.convert.cli import main
status = main(sys.argv[1:])
used = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print("KILOBYTES", used)
sys.exit(status)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_click_conversion_resumes_to_the_same_bytes(workers, convert, tmp_path):
    table = write_raw_clicks(tmp_path / "raw", images=12, people=6)
    options = ("--images", tmp_path / "raw" / "images", "--shard-size", 2)
    assert convert(table, "--out", tmp_path / "whole", *options) == (0, "")
    out = tmp_path / "out"
    command = ["-m", "harmonizer.data.convert", table, "--out", out, *options, "--workers", workers]
    process = programs.start(os.devnull, os.devnull, command)
    while process.is_alive() and not list(tmp_path.glob(".out.partial/reports/0*.json")):
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".out.partial/reports/0*.json"))) >= 1
    assert not out.exists()
    done = programs.run(command)
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_table_changed_during_conversion_is_refused(convert, tmp_path, monkeypatch):
    """Lines are found by byte offset, so a changed table would otherwise be misread."""
    from harmonizer.data.convert.readers import discover

    table = write_raw_clicks(tmp_path / "raw", images=2, people=3)
    before = discover.read_trials

    def change(*arguments):
        table.write_text("image_path,clicks,user_id\n")
        return before(*arguments)

    monkeypatch.setattr(discover, "read_trials", change)
    status, message = convert(table, "--images", tmp_path / "raw" / "images", "--out", tmp_path / "out")
    assert status == 1
    assert "has changed" in message


@pytest.mark.slow
def test_a_million_clicks_take_less_than_2_gb(tmp_path):
    """100,000 trials of 10 clicks, by 1,997 people on 1,000 images of 250x188 pixels, in shuffled order."""
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "cat").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 255, (188, 250, 3), dtype=np.uint8)).save(tmp_path / "one.jpg")
    for number in range(1000):
        (tmp_path / "images" / "cat" / f"{number}.jpg").hardlink_to(tmp_path / "one.jpg")
    places = rng.integers(0, (250, 188), (100_000, 10, 2))
    with (tmp_path / "clicks.csv").open("w") as file:
        file.write("image_path,clicks,user_id,user_catch_trial,is_mobile\n")
        for number in rng.permutation(100_000).tolist():
            clicks = str([tuple(pair) for pair in places[number].tolist()])
            file.write(f'val/cat/{number % 1000}.jpg,"{clicks}",user-{number % 1997},1.0,False\n')
    arguments = [tmp_path / "clicks.csv", "--images", tmp_path / "images", "--out", tmp_path / "out", "--workers", 2]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, arguments), "--ceiling-splits", "1"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert read_manifest(tmp_path / "out").samples == 1000
    used = 1024 * int(done.stdout.split("KILOBYTES")[1])
    assert used < MOST_MEMORY
