"""Loading processes end with their parent and ignore SIGTERM from other processes."""

import os
import signal
import subprocess
import sys
import time

import pytest
from shard_data import write_folder

LEAVES = """
import sys
from harmonizer.data.datamodule import ShardData
if __name__ == "__main__":
    settings = {"image_size": 32, "batch_size": 2, "num_workers": 2, "start_method": sys.argv[2]}
    data = ShardData(sys.argv[1], model="test_vit", **settings)
    kept = iter(data.train_dataloader())
    next(kept)
    {action}
    raise RuntimeError("left in the middle")
"""
STRANGER = """import multiprocessing, os, subprocess, time
    workers = [child.pid for child in multiprocessing.active_children()]
    for pid in workers:
        subprocess.run(["kill", "-TERM", str(pid)], check=True)
    time.sleep(1)
    for pid in workers:
        os.kill(pid, 0)
    sys.stderr.write(f"{len(workers)} alive; ")"""


@pytest.mark.parametrize(
    "method", ["fork", *(pytest.param(method, marks=pytest.mark.slow) for method in ("spawn", "forkserver"))]
)
def test_workers_end_when_an_epoch_is_left_halfway(tmp_path, method):
    folder = write_folder(tmp_path / "shards", train=20, val=6, samples_per_shard=8)
    script = tmp_path / "leaves.py"
    script.write_text(LEAVES.replace("{action}", STRANGER if method == "fork" else "pass"))
    command = [sys.executable, str(script), str(folder), method]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _, error = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1
    assert "left in the middle" in error
    assert method != "fork" or "2 alive; " in error  # a signal from another process ended none
    for _ in range(50):  # no process remains
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError("loading processes outlive their parent")
