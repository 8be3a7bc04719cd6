"""Output of the programs: lines, facts, tables and progress, in a terminal or a log file."""

import functools
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from harmonizer.run import is_rank_zero

WIDTH = 120  # columns of a log file
FIRST_LINE, LATER_LINES = 10.0, 60.0  # seconds until the first line of progress in a log file, and between later ones
REDRAWN = 0.1  # seconds between redraws of a bar


@functools.cache
def console() -> Console:
    """Return the one console of standard output; a live bar would overwrite the lines of a second one."""
    found = Console(highlight=False, markup=False, emoji=False)
    return found if found.is_terminal else Console(highlight=False, markup=False, emoji=False, width=WIDTH)


def show_lines(*lines: str) -> None:
    """Print lines, wrapped between words in a terminal and unwrapped in a log file."""
    for line in lines:
        console().print(line, soft_wrap=not console().is_terminal)


def print_rank_zero(*lines: str) -> None:
    """Print lines, in the first process of a run only."""
    if is_rank_zero():
        show_lines(*lines)


def print_next(*words: str) -> None:
    """Print the next command on one line, in the first process of a run only."""
    if is_rank_zero():
        console().print(f"next: {shlex.join(words)}", soft_wrap=True)


def print_results_next(results: str | Path, *folders: str | Path) -> None:
    """Print the results folder, or some folders in it, and the command that reports the results."""
    print_rank_zero(f"results: {' and '.join(map(str, folders or (results,)))}")
    print_next("python", "-m", "harmonizer.report", str(results), "--out", "page")


def show_facts(facts: Mapping[str, str]) -> None:
    """Print names and values, one pair per line."""
    if not console().is_terminal:
        show_lines(*(f"{name:<11} {value}" for name, value in facts.items()))
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        grid.add_row(name, Text(value))
    console().print(grid)


def show_table(table: Table, *notes: str) -> None:
    """Print a table with notes below, one per line; rich would wrap a caption at the table's width."""
    console().print(table)
    show_lines(*notes)


class Bars:
    """Progress: live bars in a terminal, plain lines elsewhere.

    Args:
        shown: Whether to show anything; False in all but the first process of a run.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown
        self._live = _WithNote(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[cost]}"),
            console=console(),
            expand=True,
            transient=True,
            auto_refresh=False,  # rich's thread might draw while a line is printed, and both would move the cursor
            disable=not (shown and console().is_terminal),
        )

    def __enter__(self) -> "Bars":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Show the bars at the bottom of the terminal."""
        if not self._live.disable:
            self._live.start()

    def stop(self) -> None:
        """Remove the bars from the terminal."""
        if not self._live.disable:  # rich < 15 prints a line break even for disabled bars
            self._live.stop()

    def task(self, unit: str) -> "Task":
        """Add a count of ``unit``, for example ``"step"``; it is hidden until its first update."""
        return Task(self._live, unit, shown=self._shown)


class Task:
    """A count with its rate and remaining time; see :meth:`Bars.task`."""

    def __init__(self, live: "_WithNote", unit: str, *, shown: bool) -> None:
        self._live, self._unit, self._shown = live, unit, shown
        self._id: TaskID = live.add_task("", total=None, visible=False, cost="")
        self.begin()

    def begin(self) -> None:
        """Reset the rate."""
        self._since: tuple[float, float] | None = None
        self._line_due = self._due = 0.0

    def update(self, name: str, done: float, total: float, note: Callable[[], str] = str) -> None:
        """Show that ``done`` of ``total`` are done; the first update after :meth:`begin` starts the clock.

        Args:
            name: Description of what is counted.
            done: Units done so far.
            total: Units in total.
            note: Function that returns further values; a terminal shows them on a separate line.
        """
        now = time.monotonic()
        if self._since is None:
            self._since, self._line_due = (now, done), now + FIRST_LINE
        cost = _cost(now - self._since[0], done - self._since[1], total - done, self._unit)
        if not self._live.disable:
            if drawn := now >= self._due or done >= total:
                self._due = now + REDRAWN
            self._live.note = note() or self._live.note
            self._live.update(
                self._id, refresh=drawn, description=name, completed=done, total=total, cost=cost, visible=True
            )
        elif self._shown and now >= self._line_due and done < total:
            self._line_due = now + LATER_LINES
            show_lines(": ".join(filter(None, (name, ", ".join(filter(None, (cost, note())))))))

    def hide(self) -> None:
        """Hide the bar until the next update, and reset the rate."""
        self.begin()
        self._live.note = ""
        self._live.update(self._id, visible=False, refresh=True)


class _WithNote(Progress):
    """Bars above a line of values, which is wrapped rather than truncated."""

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.note:
            yield Text(self.note)


def _cost(seconds: float, done: float, left: float, unit: str) -> str:
    """Format a rate and the remaining time.

    >>> _cost(10, 25, 100, "step"), _cost(60, 12, 720, "image")
    ('2.5 steps/s, 40 s left', '5.0 s per image, 60 min left')
    """
    if seconds <= 0 or done <= 0:
        return ""
    rate = done / seconds
    pace = f"{rate:.1f} {unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s per {unit}"
    return f"{pace}, {duration(left / rate)} left"


def duration(seconds: float) -> str:
    """Format a duration for readers.

    >>> duration(42), duration(400), duration(9000)
    ('42 s', '7 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
