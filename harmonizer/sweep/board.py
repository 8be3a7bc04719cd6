"""What a sweep shows: bars over models and images with the time left, and a table at the end."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.table import Table

WIDTH = 120  # columns, where there is no terminal to ask


class Board:
    """Bars in a terminal; in a log file a plain line a model.

    Args:
        models: How many there are.
    """

    def __init__(self, models: int) -> None:
        self.models = models
        self.over = 0  # models done, failed or measured elsewhere
        self.measured = 0.0  # models, and the share of the present one, measured here
        self.start = time.monotonic()
        self.live = sys.stdout.isatty()
        self.console = Console(width=None if self.live else WIDTH)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bars = Progress(*columns, TextColumn("left"), TimeLeft(), console=self.console, disable=not self.live)
        self._all: TaskID = self.bars.add_task("models", total=models)
        self._one: TaskID = self.bars.add_task("images", total=None, visible=False)

    def __enter__(self) -> "Board":
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def begin(self, name: str) -> None:
        """Show which model comes next."""
        self.bars.reset(self._one, description=escape(name), total=None, visible=True)

    def images(self, done: int, total: int) -> None:
        """Show how many of the present model's images are measured."""
        self.bars.update(self._one, completed=done, total=total)
        self.bars.update(self._all, completed=self.over + done / max(total, 1))

    def end(self, name: str, state: str, detail: str = "") -> None:
        """Show that a model is over: how it ended, and what there is to say about it."""
        self.over += 1
        self.bars.update(self._all, completed=self.over)
        self.bars.update(self._one, visible=False)
        left = ""
        if not self.live:
            self.measured += state == "done"
            if self.measured and self.over < self.models:
                seconds = (time.monotonic() - self.start) / self.measured * (self.models - self.over)
                left = f"; {self.models - self.over} left, about {duration(seconds)}"
        words = f"[{self.over}/{self.models}] {name}: {state}{' - ' * bool(detail)}{detail}{left}"
        self.console.print(words, markup=False, highlight=False, soft_wrap=True)

    def table(self, outcomes: Sequence[tuple[str, str, str]], where: str) -> None:
        """Print the table of all models: name, how it ended, detail; failed ones last."""
        table = Table("model", "state", "reason", caption=f"results: {where}")
        for name, state, detail in sorted(outcomes, key=lambda outcome: outcome[1] == "failed"):
            table.add_row(escape(name), state, escape(detail), style="red" if state == "failed" else None)
        self.console.print(table)


def duration(seconds: float) -> str:
    """Write a time for people.

    >>> duration(42), duration(400), duration(9000)
    ('42 s', '7 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
