"""Who writes a run's checkpoints while it trains, and ends it when SIGTERM came."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hw_targets.app.run import checkpoints
from hw_targets.app.run.checkpoints import Checkpoint
from hw_targets.app.run.metrics import Metrics
from hw_targets.app.run.stopping import Stop, Terminated
from hw_targets.app.run.unfinished import UnfinishedRun
from hw_targets.errors import InvalidFile
from neuroprune.training.resuming import Running

#: Seconds of work that a killed run loses at most, where nobody asked for checkpoints every so many steps.
SECONDS = 600.0


@dataclass
class Keeper:
    """The `Progress` of one stage of a run.

    Attributes:
        run: whose checkpoints they are.
        metrics: what has been recorded.
        stop: whether SIGTERM came.
        stage: 0 for the training, 1 for what follows it.
        last: the stage's number of steps; the checkpoint after it is what later stages begin with.
        every: steps between checkpoints; None: `SECONDS`.
        found: the checkpoint to go on from, if it is of this stage.
        besides: what else the stage needs to begin, saved with each checkpoint.
    """

    run: UnfinishedRun
    metrics: Metrics
    stop: Stop
    stage: int
    last: int
    every: int | None = None
    found: Checkpoint | None = None
    besides: Mapping[str, Any] = field(default_factory=dict)
    _written: float = field(default=0.0, init=False)

    def begin(self, running: Running) -> int:
        """Load the checkpoint; without one, write that of step 0, so that what cannot be saved is known at once.

        Raises:
            InvalidFile: the checkpoint belongs to another model, or no checkpoint can be written.
        """
        if self.found is None:
            self._save(0, running)
            return 0
        try:
            running.load(self.found.state)
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            raise InvalidFile(
                f"the checkpoint in {self.run.checkpoint_folder} belongs to another model or pruner than recipe.toml"
                f" builds here: {error}; go on with the packages it was begun with, or begin anew with --overwrite"
            ) from error
        self._written = time.monotonic()
        return self.found.steps

    def done(self, steps: int, running: Running) -> None:
        """Write a checkpoint if it is time, or the last step, or the end was asked for.

        Raises:
            Terminated: the end was asked for; all is saved.
            InvalidFile: the disk takes no more; the checkpoints before stay.
        """
        due = steps % self.every == 0 if self.every else time.monotonic() - self._written >= SECONDS
        if due or self.stop.asked or steps == self.last:
            self._save(steps, running)
        if self.stop.asked:
            raise Terminated(
                f"stopped by SIGTERM after step {steps}, all saved; go on with neuroprune train --resume --out"
                f" {self.run.out}"
            )

    def _save(self, steps: int, running: Running) -> None:
        state = {**running.state(), **self.besides}
        checkpoints.save(self.run.checkpoint_folder, Checkpoint(self.stage, steps, self.metrics.position(), state))
        self._written = time.monotonic()
