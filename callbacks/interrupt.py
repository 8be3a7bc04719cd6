"""Stop an evaluation on a signal, and keep the measured images."""

from contextlib import ExitStack
from pathlib import Path

import lightning as L

from harmonizer.signals import Signals
from harmonizer.training.module import HarmonizerModule


class StopAtSignal(L.Callback):
    """End an evaluation at the model's next pass after a signal; an attack takes many passes.

    The results writer has kept the rows of all images measured before.

    Args:
        results: Folder of results folders, for the message.
    """

    def __init__(self, results: str | Path) -> None:
        self.results = results
        self.signals = Signals()
        self._watch = ExitStack()  # removes the forward hook

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Install signal handlers in place of Lightning's, which would hang in a collective inside a handler."""
        self.signals.take()
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check for signals at each forward pass of the model."""
        assert isinstance(pl_module, HarmonizerModule)
        self._watch.callback(pl_module.model.register_forward_pre_hook(lambda *_: self._look(trainer)).remove)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop checking, so that the results are written."""
        self._watch.close()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Restore the signal handlers; exit if a signal has arrived."""
        self.signals.give_back()
        self.signals.stop(f" after the last image; the results are in {self.results}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers."""
        self._watch.close()
        self.signals.give_back()

    def _look(self, trainer: L.Trainer) -> None:
        self.signals.stop(f"; {self.results} keeps the images measured so far: rerun the same command to resume")
