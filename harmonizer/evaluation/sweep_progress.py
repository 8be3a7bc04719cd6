"""What a sweep shows: how far models and images are, with the time left, and a table at the end."""

import time
from collections.abc import Sequence

from rich.table import Table

from harmonizer.cli.console import Bars, duration, print_results_next, show_lines, show_table


class SweepProgress:
    """Bars in a terminal; in a log file a line per model and one line per minute inside a model.

    Args:
        models: How many there are.
    """

    def __init__(self, models: int) -> None:
        self.models = models
        self.over = 0  # models done, failed or measured by other processes
        self.measured = 0  # models measured here
        self.start = time.monotonic()
        self.name = ""
        self.bars = Bars()
        self._images = self.bars.task("image")

    def __enter__(self) -> "SweepProgress":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def begin(self, name: str) -> None:
        """Show which model comes next."""
        self.name = name
        self._images.hide()

    def images(self, done: int, total: int) -> None:
        """Show how many of the present model's images are measured."""
        place = f"[{self.over + 1}/{self.models}]"
        self._images.update(f"{place} attacked {done}/{total} images", done, total, lambda: self.name)

    def end(self, name: str, state: str, detail: str = "") -> None:
        """Show how a model ended, and details."""
        self.over += 1
        self._images.hide()
        left = ""
        self.measured += state == "done"
        if self.measured and self.over < self.models:
            seconds = (time.monotonic() - self.start) / self.measured * (self.models - self.over)
            left = f"; {self.models - self.over} left, about {duration(seconds)}"
        show_lines(f"[{self.over}/{self.models}] {name}: {state}{' - ' * bool(detail)}{detail}{left}")

    def table(self, outcomes: Sequence[tuple[str, str, str]], where: str) -> None:
        """Print the table of all models: name, how it ended, detail; failed ones last."""
        table = Table("model", "state", "reason")
        for name, state, detail in sorted(outcomes, key=lambda outcome: outcome[1] == "failed"):
            table.add_row(name, state, detail, style="red" if state == "failed" else None)
        show_table(table)
        print_results_next(where)
