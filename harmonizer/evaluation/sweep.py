"""Measure a list of models, with progress and a final table."""

import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.table import Table

from harmonizer.cli.console import Bars, duration, print_results_next, show_lines, show_table
from harmonizer.evaluation.model_spec import ModelSpec
from harmonizer.evaluation.sweep_failures import Failures, device_is_lost
from harmonizer.evaluation.sweep_list import Entry
from harmonizer.results import lock_results

DONE, BEFORE, FAILED, BUSY = "done", "done before", "failed", "busy elsewhere"
PAUSE = 2.0  # seconds between checks of other processes


class DeviceLost(RuntimeError):
    """The device is lost: this process cannot measure anything more."""


Measure = Callable[..., Path | None]


def run_sweep(
    entries: Sequence[Entry],
    results: str | Path,
    *,
    resolve_model: Callable[..., ModelSpec],
    measure: Measure,
    wait: bool = True,
) -> int:
    """Measure models, show the progress, and print a table of the outcomes.

    Args:
        entries: Models to measure.
        results: Folder of results folders, which several processes may share.
        resolve_model: Function that returns the specification of an entry's settings.
        measure: Function that measures a specification and writes its results folder; it returns the folder, or None if
            there were results already. Its arguments ``family`` and ``report`` (called with images done and to do) are
            keywords.
        wait: At the end, wait for models that other processes measure, and take over those whose process dies.

    Returns:
        Exit status: 0, or 1 if a model failed.

    Raises:
        DeviceLost: The device is lost, so that every later model would fail.
    """
    results = Path(results)
    failures, outcomes = Failures(results), dict[str, tuple[str, str]]()
    with Bars() as bars:
        progress = SweepProgress(bars, len(entries))
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
    table = Table("model", "state", "reason")
    for name, (state, detail) in sorted(outcomes.items(), key=lambda outcome: outcome[1][0] == FAILED):
        table.add_row(name, state, detail, style="red" if state == FAILED else None)
    show_table(table)
    print_results_next(results)
    return int(any(state == FAILED for state, _ in outcomes.values()))


def _one(
    entry: Entry,
    results: Path,
    failures: Failures,
    resolve_model: Callable[..., ModelSpec],
    measure: Measure,
    progress: "SweepProgress",
) -> tuple[str, str, str]:
    """Measure one model, unless another process holds its lock; return name, outcome and details."""
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
    except Exception as error:  # any: the sweep continues
        return name, FAILED, failures.record(name, error)


def _measured(
    spec: ModelSpec, entry: Entry, failures: Failures, measure: Measure, progress: "SweepProgress", start: float
) -> tuple[str, str]:
    """Measure a model whose lock this process holds; record a failure before the lock is released."""
    if reason := failures.failed_in_other_process(spec.label):
        return FAILED, reason
    try:
        folder = measure(spec, family=entry.family, report=partial(progress.images, spec.label))
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


class SweepProgress:
    """Progress bars in a terminal; in a log file, one line per model and per minute.

    Args:
        bars: Bars that the caller starts and stops.
        models: Number of models.
    """

    def __init__(self, bars: Bars, models: int) -> None:
        self.models = models
        self.over = 0  # number of finished models
        self.measured = 0  # number of models measured in this process
        self.start = time.monotonic()
        self._images = bars.task("image")

    def images(self, name: str, done: int, total: int) -> None:
        """Show the number of measured images."""
        place = f"[{self.over + 1}/{self.models}]"
        self._images.update(f"{place} attacked {done}/{total} images", done, total, lambda: name)

    def end(self, name: str, state: str, detail: str = "") -> None:
        """Show the outcome of a model."""
        self.over += 1
        self._images.hide()
        left = ""
        self.measured += state == DONE
        if self.measured and self.over < self.models:
            seconds = (time.monotonic() - self.start) / self.measured * (self.models - self.over)
            left = f"; {self.models - self.over} left, about {duration(seconds)}"
        show_lines(f"[{self.over}/{self.models}] {name}: {state}{' - ' * bool(detail)}{detail}{left}")
