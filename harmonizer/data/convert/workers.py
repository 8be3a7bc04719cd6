"""Run conversion jobs, in this process or in several."""

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from threading import Thread

import torch

from harmonizer.data.convert.job import Job, Options, Report, convert_job

AHEAD = 2  # jobs a worker that are handed out before earlier ones are done


def run_jobs(jobs: Iterable[Job], folder: Path, options: Options, *, workers: int) -> Iterator[tuple[Job, Report]]:
    """Convert, and yield jobs as they are done, in no fixed order; one worker is this process.

    Raises:
        RecordError: A sample cannot be used, and the options say to fail.
        BrokenProcessPool: A worker was killed.
    """
    if workers == 1:
        for job in jobs:
            yield job, convert_job(job, folder, options)
        return
    pending: dict[Future[Report], Job] = {}
    # Forked from a server that has the imports but no threads, as this process may have from torch.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker)
    try:
        for job in jobs:
            pending[pool.submit(convert_job, job, folder, options)] = job
            while len(pending) >= AHEAD * workers:
                yield from _take(pending)
        while pending:
            yield from _take(pending)
    finally:
        pool.shutdown(cancel_futures=True)


def _take(pending: dict[Future[Report], Job]) -> Iterator[tuple[Job, Report]]:
    """Wait for at least one job."""
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        yield pending.pop(future), future.result()


def _start_worker() -> None:
    """Use one thread, and end with the parent even when that is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow(sentinel: int) -> None:
        wait_for([sentinel])
        os._exit(1)

    Thread(target=follow, args=(parent.sentinel,), daemon=True).start()
