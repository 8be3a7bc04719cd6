"""The loop over models."""

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch

from harmonizer.cli.console import duration
from harmonizer.evaluation.model_spec import ModelSpec
from harmonizer.evaluation.sweep_failures import Failures, device_is_lost
from harmonizer.evaluation.sweep_list import Entry
from harmonizer.evaluation.sweep_progress import SweepProgress
from harmonizer.results import lock_results

DONE, BEFORE, FAILED, BUSY = "done", "done before", "failed", "busy elsewhere"
PAUSE = 2.0  # seconds between looks at what other processes are measuring


class DeviceLost(RuntimeError):
    """Nothing more can be measured in this process."""


class Measure(Protocol):
    """Measure a model and write its results folder; return it, or None when the results were there already."""

    def __call__(self, spec: ModelSpec, *, family: str | None, report: Callable[[int, int], None]) -> Path | None:
        """Measure a spec of this family, calling ``report`` with images done and to do."""


def run_sweep(
    entries: Sequence[Entry],
    results: str | Path,
    *,
    resolve_model: Callable[..., ModelSpec],
    measure: Measure,
    wait: bool = True,
) -> int:
    """Measure models, show how far it is, and print a table of how each ended.

    Args:
        entries: The models.
        results: Folder of results folders, which several processes may share.
        resolve_model: Makes a spec of what an entry says of it.
        measure: Called with the spec, by a process that owns its place in the results folder.
        wait: At the end, wait for models that other processes are measuring, and take over those whose process dies;
            otherwise leave them to the others.

    Returns:
        Exit status: 0, or 1 when a model failed.

    Raises:
        DeviceLost: Every later model would fail for no fault of its own.
    """
    results = Path(results)
    failures, outcomes = Failures(results), dict[str, tuple[str, str]]()
    with SweepProgress(len(entries)) as progress:
        waiting = list(entries)
        while waiting:
            busy = []
            for entry in waiting:
                name, state, detail = _one(entry, results, failures, resolve_model, measure, progress)
                if state == BUSY:
                    busy.append(entry)
                else:
                    outcomes[name] = state, detail
                    progress.end(name, state, detail)
            if busy and not wait:
                outcomes |= {entry.name: (BUSY, "left to the other process") for entry in busy}
                break
            if len(busy) == len(waiting):
                time.sleep(PAUSE)
            waiting = busy
    progress.table([(name, *outcome) for name, outcome in outcomes.items()], str(results))
    return int(any(state == FAILED for state, _ in outcomes.values()))


def _one(
    entry: Entry,
    results: Path,
    failures: Failures,
    resolve_model: Callable[..., ModelSpec],
    measure: Measure,
    progress: SweepProgress,
) -> tuple[str, str, str]:
    """Measure one model, unless another process holds it; return its name, how it ended, and details."""
    name, start = entry.name, time.monotonic()
    try:
        spec = resolve_model(**entry.all_settings)
        name = spec.label
        with lock_results(results, name):
            return name, *_measured(spec, entry, failures, measure, progress, start)
    except BlockingIOError:
        return name, BUSY, ""
    except DeviceLost:
        raise
    except Exception as error:  # a model that cannot even be chosen
        return name, FAILED, failures.record(name, error)


def _measured(
    spec: ModelSpec, entry: Entry, failures: Failures, measure: Measure, progress: SweepProgress, start: float
) -> tuple[str, str]:
    """Measure a model whose place this process owns; a failure is recorded before the place is given back."""
    if reason := failures.failed_in_other_process(spec.label):
        return FAILED, reason
    progress.begin(spec.label)
    try:
        folder = measure(spec, family=entry.family, report=progress.images)
    except Exception as error:
        reason = failures.record(spec.label, error)
        if device_is_lost(error):
            raise DeviceLost(f"the device is lost while measuring {spec.label}: {error}") from error
        return FAILED, reason
    finally:
        gc.collect()  # Lightning's objects refer to each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    failures.forget(spec.label)
    return (BEFORE, "") if folder is None else (DONE, duration(time.monotonic() - start))
