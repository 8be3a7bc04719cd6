"""Short trainings in this process, with the callbacks of train.py that affect what a run writes."""

import socket
from concurrent.futures import ThreadPoolExecutor

import lightning as L
import programs

from callbacks.checkpoint import AtomicCheckpointIO, LastCheckpoint
from callbacks.ema import WeightAverage
from callbacks.finite import FiniteGuard
from callbacks.metrics_file import MetricsFile
from callbacks.training_log import TrainingLog
from harmonizer.data.datamodule import ShardData
from harmonizer.training.checkpoint_io import newest_checkpoint

QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
QUIET |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "use_distributed_sampler": False}


def shards(folder, **settings):
    """Return the data module of a folder of small shards."""
    options = {"model": "test_resnet", "image_size": 32, "batch_size": 8, "crop_ratio": 1.0, "seed": 3}
    return ShardData(folder, **options | settings)


def fit(module, data, folder, *callbacks, ema=None, nonfinite="stop", minutes=10.0, **settings):
    """Train as train.py does, resuming from the newest checkpoint in the folder; return the trainer."""
    options = QUIET | {"max_epochs": 2, "log_every_n_steps": 1, "enable_checkpointing": None}
    guards = [WeightAverage(ema), FiniteGuard(folder, nonfinite), TrainingLog()]
    trainer = L.Trainer(
        callbacks=[*callbacks, *guards, LastCheckpoint(folder, minutes=minutes)],
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
        **options | {"logger": MetricsFile(folder / "metrics.csv")} | settings,
    )
    trainer.fit(module, data, ckpt_path=newest_checkpoint(folder), weights_only=True)
    return trainer


def in_ranks(words, world, **environment):
    """Run ``python WORDS`` in the processes of a DDP run, with a launcher's variables."""
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "GROUP_RANK": "0"}
    group |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)} | environment

    def run(rank):
        return programs.run(words, **group, RANK=str(rank), LOCAL_RANK=str(rank))

    with ThreadPoolExecutor(world) as pool:
        for done in pool.map(run, range(world)):
            assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def free_port():
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
