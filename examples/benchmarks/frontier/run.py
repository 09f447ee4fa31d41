"""One training run, independent of every other: what a worker process does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from examples.benchmarks.frontier.methods import METHODS, Handle, Method, Run
from examples.benchmarks.frontier.methods.base import prunable, sparsity_of
from examples.benchmarks.frontier.store import Key, Record
from examples.benchmarks.frontier.tasks import TASKS, Task, device_of, digest, load
from neuroprune.training.data.base import Split
from neuroprune.training.data.images import ImageSet
from neuroprune.training.loop import accuracy, predictor, train

#: Points kept of the course of threshold and L1 coefficient.
TRACE_POINTS = 50


@dataclass(frozen=True)
class Unit:
    """A run to do: a cell, or a calibration run that measures the sparsity a knob gives, and no accuracy."""

    kind: Literal["cell", "calibration"]
    size: str
    model: str
    method: str
    target: float
    seed: int
    knob: float | None = None

    @property
    def task(self) -> Task:
        """The network and its budget."""
        return TASKS[self.size][self.model]

    @property
    def key(self) -> Key:
        """What it is known by in the results file."""
        return Key(self.model, self.method, self.target, self.seed, budget_of(self.task, METHODS[self.method]))


def budget_of(task: Task, method: Method) -> str:
    """Digest of everything but target and seed that decides a cell: a changed setting makes it another cell."""
    return digest({"task": task.settings(), "method": settings_of(method)})


def settings_of(method: Method) -> dict[str, Any]:
    """The fields of a method, by name."""
    return asdict(method)  # type: ignore[call-overload, no-any-return]  # methods are dataclasses, which no protocol says


@lru_cache(maxsize=4)
def _data(task: Task, device: torch.device) -> Split[ImageSet]:
    return load(task, device)


@lru_cache(maxsize=4)
def _trained(task: Task, seed: int, device: torch.device) -> dict[str, Tensor]:
    """The state of a task's network after its start, without pruning."""
    assert task.start is not None
    hyper, model, data = replace(task.start, seed=seed), task.build(seed).to(device), _data(task, device)
    optimizer = hyper.optimizer(model)
    scheduler = hyper.scheduler(optimizer, hyper.steps(task.images))
    title = f"{task.model} before pruning"
    train(model, data.train, optimizer, scheduler, hyper, predictor(model, task.time_steps), title=title)
    return model.state_dict()


def run_unit(unit: Unit) -> Record:
    """Train, and measure. The test set is seen once, by cells only, when everything is decided.

    A loss that is not finite is a result: the record has `error` in place of accuracies.
    """
    torch.set_num_threads(1)
    task, device = unit.task, device_of(unit.task)
    data = _data(task, device)
    start, cpu = time.perf_counter(), time.process_time()
    measured = _train_and_measure(unit, task, data, device)
    return {
        "kind": unit.kind,
        **asdict(unit.key),
        "size": unit.size,
        "task": task.settings(),
        "settings": settings_of(METHODS[unit.method]),
        "knob": unit.knob,
        **measured,
        "seconds": round(time.perf_counter() - start, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "device": device.type,
    }


def _train_and_measure(unit: Unit, task: Task, data: Split[ImageSet], device: torch.device) -> Record:
    hyper, model = task.seeded(unit.seed), task.build(unit.seed).to(device)
    if task.start is not None:
        model.load_state_dict(_trained(task, unit.seed, device))
    optimizer, steps, predict = hyper.optimizer(model), hyper.steps(task.images), predictor(model, task.time_steps)
    scheduler = hyper.scheduler(optimizer, steps)
    parameters = prunable(optimizer)
    rows: list[dict[str, float]] = []
    handle: Handle = METHODS[unit.method].attach(
        Run(
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            steps=steps,
            target=unit.target,
            data=data.train,
            predict=predict,
            hyper=hyper,
            time_steps=task.time_steps,
            knob=unit.knob,
        )
    )
    title = f"{unit.model} {unit.method} {unit.target:g}"
    try:
        train(
            model, data.train, handle.optimizer, scheduler, hyper, predict,
            pruner=handle.pruner, record=rows.append, title=title,
        )  # fmt: skip
    except FloatingPointError as error:
        return {"steps": len(rows), "error": str(error)}
    extras = handle.finish()
    result: Record = {"steps": len(rows), "sparsity": sparsity_of(parameters), "train_loss": end_loss(rows)}
    if unit.kind == "cell":
        result["validation_accuracy"] = accuracy(model, data.validation, predict, title=f"{title} validation")
        result["test_accuracy"] = accuracy(model, data.test, predict, title=f"{title} test")
        result["extras"] = extras
        result["trace"] = trace(rows)
    return result


def end_loss(rows: Sequence[dict[str, float]]) -> float:
    """Mean training loss of the last twentieth of the steps."""
    last = rows[-max(1, len(rows) // 20) :]
    return sum(row["loss"] for row in last) / len(last)


def trace(rows: Sequence[dict[str, float]], points: int = TRACE_POINTS) -> dict[str, list[float]]:
    """Step, loss and, of a soft threshold, learning rate, threshold and L1 coefficient, at evenly spread steps."""
    count = min(points, len(rows))
    chosen = [rows[round(i * (len(rows) - 1) / max(1, count - 1))] for i in range(count)]
    names = [name for name in ("step", "loss", "lr", "threshold", "l1") if name in rows[0]]
    return {name: [float(f"{row[name]:.5g}") for row in chosen] for name in names}
