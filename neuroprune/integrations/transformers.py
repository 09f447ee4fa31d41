"""Hugging Face's Trainer: a callback that prunes, and that resumes from its checkpoint folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.optim import Optimizer

from neuroprune._require import require
from neuroprune.pruning.pruner import SoftThresholdPruner

callbacks = require("transformers.trainer_callback", "integrations")

#: Makes the pruner of an optimizer; the second argument is the TrainerState, with `max_steps`.
Make: TypeAlias = Callable[[Optimizer, Any], SoftThresholdPruner]
#: Name of the pruner's file in a checkpoint folder.
FILE = "pruner.pt"


class PruningCallback(callbacks.TrainerCallback):  # type: ignore[misc,name-defined] # of a package that is optional
    """Attaches a pruner when the training begins; each checkpoint folder gets its state as `pruner.pt`.

        pruning = PruningCallback(lambda optimizer, state: prune_to(0.9, optimizer, steps=state.max_steps))
        trainer = Trainer(model, arguments, train_dataset=data, callbacks=[pruning])
        trainer.train()                            # or trainer.train(resume_from_checkpoint=True), bit for bit
        pruning.pruner.finalize()

    A resumed run takes it from `output_dir/checkpoint-<step>`, where Trainer writes; where the checkpoint was moved,
    say so with `resume_from`.

    Args:
        make: makes the pruner, from the torch optimizer and the TrainerState.
        resume_from: the checkpoint folder that is given to `trainer.train(resume_from_checkpoint=...)`, if it is not
            where Trainer wrote it.
    """

    def __init__(self, make: Make, *, resume_from: str | os.PathLike[str] | None = None) -> None:
        self._make = make
        self._resume_from = resume_from
        self._pruner: SoftThresholdPruner | None = None

    @property
    def pruner(self) -> SoftThresholdPruner:
        """The pruner of the present or last training.

        Raises:
            RuntimeError: no training has begun yet.
        """
        if self._pruner is None:
            raise RuntimeError("PruningCallback.pruner: there is none before trainer.train() has begun")
        return self._pruner

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - Trainer's
        """Attach the pruner; weights and optimizer are restored by now.

        Raises:
            FileNotFoundError: the run is resumed from a checkpoint without the pruner's state.
            ValueError: that state belongs to other weights than the checkpoint's.
        """
        if self._pruner is not None:
            self._pruner.finalize()
        optimizer = kwargs["optimizer"]
        self._pruner = self._make(getattr(optimizer, "optimizer", optimizer), state)  # the one Accelerate wraps
        if state.global_step > 0:
            folder = self._resume_from or Path(args.output_dir) / f"checkpoint-{state.global_step}"
            _resume(self._pruner, Path(folder) / FILE)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - Trainer's signature
        """Write the pruner's state beside what Trainer has just saved, on the process that saves; all or nothing."""
        saved = self.pruner.state_dict()  # asked of every process: of shards each has a part
        if not args.should_save:
            return
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE
        temporary = path.with_suffix(".part")
        torch.save(saved, temporary)
        os.replace(temporary, path)


def _resume(pruner: SoftThresholdPruner, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(
            f"PruningCallback: the run is resumed, and {path} does not exist: the checkpoint was saved without this"
            " callback, or the process ended before it could write it, or it was moved; resume from an earlier"
            " checkpoint, or say where it is with resume_from="
        )
    before = [parameter.detach().clone() for parameter in pruner.parameters]
    pruner.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    if not all(torch.equal(a, b) for a, b in zip(before, pruner.parameters, strict=True)):
        raise ValueError(
            f"PruningCallback: {path} belongs to other weights than the checkpoint that is resumed; give the folder"
            " that trainer.train(resume_from_checkpoint=...) gets as resume_from="
        )
