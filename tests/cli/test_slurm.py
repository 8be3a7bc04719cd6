"""The job scripts, run on stand-ins for SLURM's programs: two tasks train, are stopped by a signal, and resume."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interrupt import rows
from shard_data import write_folder

from harmonizer.training.checkpoint_io import read_checkpoint

ROOT = Path(__file__).parents[2]
RUN = "runs/test_efficientnet_gn/harmonized/seed-0"
SRUN = """#!/bin/bash
# Start SLURM_NTASKS copies, as srun does, in this script's process group; exit with the largest code.
[ "$1" = --wait=120 ] && shift
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & pids="$pids $!"
done
trap : USR1
code=0
for pid in $pids; do
  wait $pid; status=$?
  while kill -0 $pid 2>/dev/null; do wait $pid; status=$?; done
  [ $status -gt $code ] && code=$status
done
exit $code
"""
SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
SLURM |= {"SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "SLURM_JOB_NUM_NODES": "1", "MASTER_ADDR": "127.0.0.1"}


@pytest.fixture
def place(tmp_path):
    """A folder with shards and the stand-ins."""
    write_folder(tmp_path / "shards", train=120, val=7)
    for name, text in {"srun": SRUN, "scontrol": '#!/bin/bash\necho "$@" >> requeued\n'}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start(place, words):
    environment = os.environ | SLURM | {"PATH": f"{place}:{os.environ['PATH']}", "PYTHON": sys.executable}
    environment |= {"SLURM_SUBMIT_DIR": str(place), "OMP_NUM_THREADS": "1"}
    script = (ROOT / "docs/slurm/train.sbatch").read_text().replace(" train.py ", f" {ROOT / 'train.py'} ")
    (place / "job").write_text(script)
    with (place / "output").open("a") as output:
        return subprocess.Popen(
            ["bash", "job", *words], cwd=place, env=environment, stdout=output, stderr=output, start_new_session=True
        )


@pytest.mark.slow
def test_a_stopped_job_is_requeued_and_resumes(place):
    words = (
        "--model test_efficientnet_gn --harmonize --data folder data.folder=shards data.image_size=32 "
        "data.num_workers=1 recipe.batch_size=4 recipe.epochs=6 every_n_epochs=0 trainer.accelerator=cpu "
        "trainer.log_every_n_steps=1"
    )
    words = words.split(" ")
    log = place / RUN / "logs/csv/metrics.csv"
    job = start(place, words)
    deadline = time.monotonic() + 180
    while not log.exists() and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    children = subprocess.run(
        ["pgrep", "-g", str(job.pid), "-f", "train.py"], capture_output=True, text=True, check=False
    )
    for pid in children.stdout.split():  # SLURM signals the tasks and their child processes, not the script
        os.kill(int(pid), signal.SIGUSR1)
    assert job.wait(timeout=120) == 0, (place / "output").read_text()
    assert (place / "requeued").read_text() == "requeue 7\n"
    step = read_checkpoint(place / RUN / "last.ckpt")["global_step"]
    assert 0 < step < 90
    assert f"stopped by SIGUSR1 at step {step}" in (place / "output").read_text()

    assert start(place, words).wait(timeout=300) == 0, (place / "output").read_text()
    assert read_checkpoint(place / RUN / "last.ckpt")["global_step"] == 90  # 120 samples, two processes, batches of 4
    steps = [int(row["step"]) for row in rows(place / RUN) if "train/loss" in row]
    assert steps == list(range(90))
    assert (place / "requeued").read_text() == "requeue 7\n"


def test_the_job_scripts_are_valid_bash():
    for path in (ROOT / "docs/slurm").glob("*.sbatch"):
        subprocess.run(["bash", "-n", str(path)], check=True)
        assert path.read_text().startswith("#!/bin/bash\n")


def test_each_task_gets_its_own_cores_and_gpu(tmp_path):
    (tmp_path / "srun").write_text('#!/bin/bash\necho "$SRUN_CPUS_PER_TASK $@"\n')
    (tmp_path / "srun").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": "python"}
    environment |= {"SLURM_CPUS_PER_TASK": "8", "SLURM_NTASKS_PER_NODE": "8", "SLURM_JOB_ID": "7"}
    for gpus, code in (("8", 0), ("4", 2)):
        job = ["bash", str(ROOT / "docs/slurm/train.sbatch"), "--harmonize"]
        settings = environment | {"SLURM_GPUS_ON_NODE": gpus}
        done = subprocess.run(job, env=settings, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == code
        if code:
            assert "got 8 tasks and 4 GPUs on a node; try sbatch --ntasks-per-node=4" in done.stderr
            assert not done.stdout
        else:
            assert done.stdout == "8 --wait=120 python train.py --harmonize trainer=slurm\n"
