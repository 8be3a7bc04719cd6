"""Progress bars of the data commands, shown only on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

Advance = Callable[[int], None]


class Progress:
    """Progress bars of several tasks."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    @contextmanager
    def task(self, name: str, *, total: int | None = None, done: int = 0) -> Iterator[Advance]:
        """Show a task while it runs; yield a function to call with the amount done since the last call."""
        task = self._bars.add_task(name, total=total, completed=done)
        yield lambda amount: self._bars.advance(task, amount)
        self._bars.remove_task(task)


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Show the bars of several tasks on standard error."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Bars(*columns, console=console, transient=True)
    with bars if console.is_terminal else nullcontext():  # rich < 15 prints a line break, also for disabled bars
        yield Progress(bars)
