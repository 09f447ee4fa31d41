"""Lightning: a callback that prunes, and that resumes from Lightning's own checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch.optim import Optimizer

from neuroprune._require import require
from neuroprune.pruning.pruner import SoftThresholdPruner

pytorch = require("lightning.pytorch", "integrations")

#: Makes the pruner of an optimizer; the second argument is Lightning's trainer.
Make: TypeAlias = Callable[[Optimizer, Any], SoftThresholdPruner]


class PruningCallback(pytorch.Callback):  # type: ignore[misc,name-defined] # a class of a package that is optional
    """Attaches a pruner when the training starts, and saves and restores it with every checkpoint.

        pruning = PruningCallback(lambda optimizer, trainer: prune_to(0.9, optimizer, steps=trainer.max_steps))
        trainer = Trainer(max_steps=1000, callbacks=[pruning])
        trainer.fit(model, loader)                 # or trainer.fit(model, loader, ckpt_path=...), bit for bit
        pruning.pruner.finalize()

    After `fit` the model holds its weights, with true zeros; the pruner stays attached, so that
    `trainer.save_checkpoint` still saves it, until `finalize()` or the next `fit`. A checkpoint without the pruner's
    state is refused at the first step.

    Args:
        make: makes the pruner, from the optimizer and the trainer.
        optimizer: which of the optimizers, if there are several; one callback for each that is to be pruned.
    """

    def __init__(self, make: Make, *, optimizer: int = 0) -> None:
        self._make = make
        self._index = optimizer
        self._pruner: SoftThresholdPruner | None = None
        self._saved: dict[str, Any] | None = None

    @property
    def pruner(self) -> SoftThresholdPruner:
        """The pruner of the present or last training.

        Raises:
            RuntimeError: no training has started yet.
        """
        if self._pruner is None:
            raise RuntimeError("PruningCallback.pruner: there is none before trainer.fit has started to train")
        return self._pruner

    @property
    def state_key(self) -> str:
        """Under which a checkpoint holds the state: of its own for each optimizer."""
        return f"neuroprune.PruningCallback, optimizer {self._index}"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 - Lightning's signature
        """Attach the pruner; weights and optimizer are restored by now, and its own state follows."""
        if self._pruner is not None:
            self._pruner.finalize()
        self._pruner = self._make(trainer.optimizers[self._index], trainer)
        if self._saved is not None and trainer.ckpt_path is not None:
            self._pruner.load_state_dict(self._saved)
        self._saved = None

    def state_dict(self) -> dict[str, Any]:
        """The pruner's state; empty without an attached pruner."""
        return {} if self._pruner is None or not self._pruner.attached else self._pruner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's state until there is a pruner that takes it."""
        self._saved = state_dict or None
