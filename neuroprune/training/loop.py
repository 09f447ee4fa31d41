"""One training loop for spiking and ordinary networks; pruning rides on the optimizer it is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F

from neuroprune.frameworks import Framework, framework_of, spikes_of
from neuroprune.pruning.pruner import SoftThresholdPruner
from neuroprune.training.data.base import DataSet, has_steps, training_batches_from
from neuroprune.training.hyperparameters import Hyperparameters
from neuroprune.training.processes import Processes
from neuroprune.training.progress import progress_bar
from neuroprune.training.resuming import Progress, Running
from neuroprune.training.toml import InvalidRecipe

__all__ = ["Hyperparameters", "Predict", "Record", "accuracy", "evaluation_batch", "predictor", "progress_bar", "train"]

#: Maps a model and what a data set's `as_input` gives, images (N, C, H, W) or (T, N, …), to class scores (N, classes).
Predict: TypeAlias = Callable[[nn.Module, Tensor], Tensor]
#: Receives one record per optimizer step: step, epoch, loss, lr, threshold, l1; with AMP also skipped (0 or 1).
Record: TypeAlias = Callable[[dict[str, float]], None]

#: One process, which exchanges nothing.
ALONE = Processes()


def predictor(model: nn.Module, time_steps: int, data: DataSet | None = None) -> Predict:
    """How to get class scores from a model: through its framework if it spikes, by a plain call if it does not.

    Of `data` whose samples have steps of their own, inputs are (T, N, …), and `time_steps` plays no part.
    """
    framework = framework_of(model)
    if framework is None:
        return lambda network, images: network(images)
    if data is not None and has_steps(data):
        return lambda network, inputs: predict_steps(framework, network, inputs)
    return lambda network, images: framework.predict(network, images, time_steps)


def predict_steps(framework: Framework, model: nn.Module, inputs: Tensor) -> Tensor:
    """Class scores (N, classes) of inputs (T, N, …): mean over time of what a model returns, from a fresh state.

    A model that takes one step per call gets them one by one; one that sums over time itself returns (N, classes).
    """
    framework.reset(model)
    axis = framework.time_axis(model)
    if axis is None:
        return torch.stack([spikes_of(model(step)) for step in inputs]).mean(0)
    if axis == -1:
        return spikes_of(model(inputs.movedim(0, -1))).mean(-1).flatten(1)
    scores = spikes_of(model(inputs))
    return scores.mean(0) if scores.dim() > 2 else scores


def train(
    model: nn.Module,
    data: DataSet,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    hyper: Hyperparameters,
    predict: Predict,
    *,
    pruner: SoftThresholdPruner | None = None,
    record: Record | None = None,
    title: str = "training",
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> None:
    """Train in place for `hyper.epochs` over shuffled `data`, on the device the model is on.

    A pruner attached to the optimizer does its work inside `optimizer.step()`; it is an argument only to be recorded.
    A step that AMP skips because its gradients overflowed changes nothing: not the weights, not the threshold, not the
    learning rate. `progress` says from which state to go on, and is told of each step; a run that goes on ends bit for
    bit as one that never stopped. Of several `processes` each computes its part of every batch.

    Raises:
        FloatingPointError: the loss is NaN or infinite; the model is left as it was before that step.
        InvalidRecipe: the pruner refuses a step.
    """
    scaler = _grad_scaler(next(model.parameters()).device, hyper)
    steps, per_step = hyper.steps(len(data)), hyper.batch_size * hyper.accumulate
    model.train()
    running = Running(model, optimizer, scheduler, scaler, pruner)
    start = 0 if progress is None else progress.begin(running)
    batches = training_batches_from(data, per_step, hyper.epochs, hyper.seed, start)
    with progress_bar(steps, title, start) as bar:
        for step, (images, labels) in enumerate(batches, start):
            optimizer.zero_grad(set_to_none=True)
            loss = processes.mean(_backward(model, data, images, labels, hyper, predict, scaler, processes))
            if not math.isfinite(loss):
                raise FloatingPointError(f"{title}: the loss is {loss} at step {step}; lower the learning rate")
            processes.average(model)
            lr = float(optimizer.param_groups[0]["lr"])
            try:
                skipped = _step(optimizer, scaler)
            except ValueError as error:  # what a schedule cannot go on with
                raise InvalidRecipe(f"{title}: {error}") from error
            if not skipped:
                scheduler.step()
            if record is not None:
                row = {"step": step, "epoch": step * hyper.epochs // steps, "loss": loss, "lr": lr}
                if hyper.amp:
                    row["skipped"] = int(skipped)
                if pruner is not None:
                    row |= {"threshold": pruner.threshold, "l1": pruner.l1}
                record(row)
            if progress is not None:
                progress.done(step + 1, running)
            bar.update()


@torch.no_grad()
def accuracy(
    model: nn.Module, data: DataSet, predict: Predict, *, batch_size: int | None = None, title: str = "test"
) -> float:
    """Fraction of images classified correctly, in evaluation mode.

    `batch_size` None: 500, or fewer where images are large.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    correct = 0
    with progress_bar(len(data), title) as bar:
        for images, labels in data.batches(batch_size or evaluation_batch(data)):
            scores = predict(model, data.as_input(images.to(device)))
            correct += int((scores.argmax(1).cpu() == labels).sum())
            bar.update(len(labels))
    model.train(was_training)
    return correct / len(data)


def evaluation_batch(data: DataSet, at_most: int = 500) -> int:
    """Samples to evaluate at once: `at_most`, or as many as have 2²¹ pixels (41 of 224×224)."""
    positions = max(1, math.prod(data.sample_shape[1:]))
    return max(1, min(at_most, (1 << 21) // positions))


def _backward(
    model: nn.Module,
    data: DataSet,
    images: Tensor,
    labels: Tensor,
    hyper: Hyperparameters,
    predict: Predict,
    scaler: GradScaler,
    processes: Processes,
) -> float:
    """Gradients of one optimizer step, added up over `hyper.accumulate` batches; returns the mean loss."""
    device = next(model.parameters()).device
    total = 0.0
    for start in range(0, len(labels), hyper.batch_size):
        part = slice(start, start + hyper.batch_size)
        inputs = data.as_input(processes.part(images[part]).to(device, non_blocking=True))
        with torch.autocast(device.type, enabled=hyper.amp):
            scores = predict(model, inputs)
        # The loss itself is always in full precision.
        wanted = processes.part(labels[part]).to(device, non_blocking=True)
        loss = F.cross_entropy(scores.float(), wanted, label_smoothing=hyper.label_smoothing)
        total += loss.item() / hyper.accumulate
        if not math.isfinite(total):
            break
        torch.autograd.backward(scaler.scale(loss / hyper.accumulate))
    return total


def _grad_scaler(device: torch.device, hyper: Hyperparameters) -> GradScaler:
    """Float16 gradients (CUDA) underflow without scaling; bfloat16 ones (CPU) have float32's range."""
    return GradScaler(device.type, enabled=hyper.amp and device.type == "cuda")


def _step(optimizer: torch.optim.Optimizer, scaler: GradScaler) -> bool:
    """One optimizer step; True if it was skipped because the gradients overflowed."""
    scale = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    return bool(scaler.get_scale() < scale)
