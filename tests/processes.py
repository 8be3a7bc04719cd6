"""Run a function in two processes of a gloo group."""

import torch.distributed as dist
import torch.multiprocessing as mp


def in_two_processes(work, folder, *arguments):
    """Call ``work(rank, *arguments)`` in two forked processes that rendezvous in a folder."""
    mp.start_processes(_join, (work, folder, arguments), nprocs=2, start_method="fork")


def _join(rank, work, folder, arguments):
    # The group ends with its process. destroy_process_group would be a possible deadlock: in torch 2.5 it holds the GIL
    # while it waits for a thread that may need the GIL.
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    work(rank, *arguments)
