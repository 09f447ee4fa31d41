"""Several processes that train one model: what `accelerate launch` starts, talking through Accelerate.

A batch is the recipe's, whatever the number of processes: each takes its part of it, and gradients are averaged before
the optimizer's step. All take the same steps, so that weights and thresholds stay the same on all of them. Batch-norm
sees a process's part of a batch; its running statistics are the first process's, as under DistributedDataParallel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuroprune._require import require
from neuroprune.training.hyperparameters import Hyperparameters
from neuroprune.training.resuming import Progress, Running, random_state, set_random_state
from neuroprune.training.toml import InvalidRecipe

#: What a launcher may ask for, by the variable that says so, and that is not done.
_REFUSED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them; `accelerator` None: it is alone, and nothing is exchanged."""

    accelerator: Any = None

    @property
    def count(self) -> int:
        """How many there are."""
        return 1 if self.accelerator is None else int(self.accelerator.num_processes)

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.accelerator is None or bool(self.accelerator.is_main_process)

    def device(self, asked: str) -> str:
        """Where this one computes."""
        return asked if self.accelerator is None else str(self.accelerator.device)

    def check(self, hyper: Hyperparameters) -> None:
        """Refuse a batch that does not fall into equal parts.

        Raises:
            InvalidRecipe: it does not.
        """
        if hyper.batch_size % self.count:
            raise InvalidRecipe(
                f"training.batch_size is {hyper.batch_size}, which {self.count} processes cannot share equally; make it"
                " a multiple of their number"
            )

    def part(self, batch: Tensor) -> Tensor:
        """This process's part of a batch."""
        return batch if self.accelerator is None else batch[self.accelerator.process_index :: self.count]

    def mean(self, value: float) -> float:
        """Over all processes, of a number each has."""
        return value if self.accelerator is None else self._sum(value) / self.count

    def any(self, flag: bool) -> bool:
        """Whether one of the processes says so; each has to ask."""
        return flag if self.accelerator is None else self._sum(float(flag)) > 0

    def wait(self) -> None:
        """For all to come here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def start_alike(self, model: nn.Module) -> None:
        """Parameters, buffers and the state of all random numbers become the first process's."""
        if self.accelerator is not None:
            self._send(dict(model.state_dict()))
            state = [random_state()]
            require("accelerate.utils", "integrations").broadcast_object_list(state, from_process=0)
            set_random_state(state[0])

    @torch.no_grad()
    def average(self, model: nn.Module) -> None:
        """Gradients become their means; the buffers that a model saves become the first process's.

        Of a parameter that has a gradient on some processes only, the others count as 0.
        """
        if self.accelerator is None:
            return
        trained = [p for p in model.parameters() if p.requires_grad]
        has = self.accelerator.reduce(
            torch.tensor([float(p.grad is not None) for p in trained], device=self.accelerator.device), "sum"
        )
        moved = [p for p, count in zip(trained, has.tolist(), strict=True) if count]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in moved]
        for parameter, gradient in zip(moved, self.accelerator.reduce(gradients, "mean"), strict=True):
            parameter.grad = gradient
        names = {name for name, _ in model.named_parameters()}
        self._send({name: value for name, value in model.state_dict().items() if name not in names})

    def end(self) -> None:
        """No more is exchanged; all have to come here."""
        if self.accelerator is not None:
            self.wait()
            self.accelerator.end_training()

    def _sum(self, value: float) -> float:
        one = torch.tensor([value], dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(one, "sum"))

    def _send(self, tensors: Mapping[str, Tensor]) -> None:
        utilities = require("accelerate.utils", "integrations")
        for tensor in tensors.values():
            tensor.copy_(utilities.broadcast(tensor.detach().clone().contiguous(), from_process=0))


def found_processes(device: str) -> Processes:
    """Those that a launcher started: alone, unless WORLD_SIZE says otherwise.

    Raises:
        InvalidRecipe: a launcher asks for what is not done.
        ImportError: several, without Accelerate.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return Processes()
    for variable, name in _REFUSED.items():
        if os.environ.get(variable, "false").lower() in ("1", "true"):
            raise InvalidRecipe(
                f"the launcher asks for {name}, which parts weights from their shape, so that nothing could be pruned;"
                " launch without it: gradients are averaged as under DistributedDataParallel"
            )
    if os.environ.get("ACCELERATE_MIXED_PRECISION", "no") != "no":
        raise InvalidRecipe(
            "the launcher asks for mixed precision, which is the recipe's to say; launch with --mixed_precision no, and"
            " set training.amp = true"
        )
    return Processes(require("accelerate", "integrations").Accelerator(cpu=device == "cpu"))


@dataclass
class Following:
    """The `Progress` of a process that writes nothing: it starts where the first one does.

    Attributes:
        state: of the checkpoint to go on from; None: from the beginning.
        steps: how many it has done.
    """

    state: Mapping[str, Any] | None
    steps: int

    def begin(self, running: Running) -> int:
        """Load the state."""
        if self.state is not None:
            running.load(self.state)
        return self.steps

    def done(self, steps: int, running: Running) -> None:
        """Nothing to keep."""


@dataclass
class Together:
    """The `Progress` of one of several processes: when one is asked to stop, all do, after the same step.

    Attributes:
        inner: what this one does.
        processes: all of them.
        asked: whether this one is to stop.
        stop: tells this one, before `inner` is told of the step, that one is to stop.
        stopped: ends it, where `inner` has not.
    """

    inner: Progress
    processes: Processes
    asked: Callable[[], bool]
    stop: Callable[[], None]
    stopped: Callable[[], BaseException]

    def begin(self, running: Running) -> int:
        """As `inner`, when all are ready; a model begins alike on all."""
        self.processes.start_alike(running.model)
        return self.inner.begin(running)

    def done(self, steps: int, running: Running) -> None:
        """As `inner`."""
        end = self.processes.any(self.asked())
        if end:
            self.stop()
        self.inner.done(steps, running)
        if end:
            raise self.stopped()
