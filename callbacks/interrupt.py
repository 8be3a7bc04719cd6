"""An evaluation stops at a signal: at the model's next pass, with what is measured kept."""

from contextlib import ExitStack
from pathlib import Path

import lightning as L

from harmonizer.signals import Signals
from harmonizer.training.module import HarmonizerModule


class StopAtSignal(L.Callback):
    """End an evaluation at the model's next pass once a signal has come; an attack takes many passes.

    The results writer keeps the rows of all images that were measured before.

    Args:
        results: Folder of results folders, for the message.
    """

    def __init__(self, results: str | Path) -> None:
        self.results = results
        self.signals = Signals()
        self._watch = ExitStack()  # of the model's passes

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Install handlers that stay: Lightning's own would take part in a collective inside a handler, and hang."""
        self.signals.take()
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Watch the model's passes: an attack takes many."""
        assert isinstance(pl_module, HarmonizerModule)
        self._watch.callback(pl_module.model.register_forward_pre_hook(lambda *_: self._look(trainer)).remove)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let what is complete be written."""
        self._watch.close()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back; stop before another model's evaluation."""
        self.signals.give_back()
        self.signals.stop(f" after the last image; the results are in {self.results}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._watch.close()
        self.signals.give_back()

    def _look(self, trainer: L.Trainer) -> None:
        self.signals.stop(f"; {self.results} keeps the images measured so far: rerun the same command to resume")
