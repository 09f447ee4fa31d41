"""Loops in one process: torch's own, Lightning, Hugging Face's Trainer, Accelerate; schedule-free optimizers."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset

from examples.benchmarks.trainer_cases.reference import (
    BATCH,
    EPOCH,
    STEPS,
    Outcome,
    Verdict,
    adamw,
    batch,
    by_hand,
    compare,
    criterion,
    data,
    lats,
    mean_loss,
    network,
    outcome,
)
from neuroprune import LATS, SoftThresholdPruner
from neuroprune._require import require
from neuroprune.integrations.averaging import keep_zeros


def torch_loop() -> Verdict:
    """Two lines in a plain loop."""
    model = network()
    optimizer, scheduler = adamw(model)
    pruner = lats(optimizer)
    for step in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(mean_loss(model, step))
        optimizer.step()
        scheduler.step()
    return compare(outcome(model, optimizer, pruner), by_hand())


def torch_resumed() -> Verdict:
    """Saved after a half, as README says, and gone on with in new objects."""
    saved: list[Any] = []
    for first, last in ((0, STEPS // 2), (STEPS // 2, STEPS)):
        model = network()
        optimizer, scheduler = adamw(model)
        pruner = lats(optimizer)
        parts: tuple[Any, ...] = (model, optimizer, scheduler, pruner)
        for part, state in zip(parts, saved, strict=False):
            part.load_state_dict(state)
        for step in range(first, last):
            optimizer.zero_grad()
            torch.autograd.backward(mean_loss(model, step))
            optimizer.step()
            scheduler.step()
        saved = copy.deepcopy([part.state_dict() for part in (model, optimizer, scheduler, pruner)])
    return compare(outcome(model, optimizer, pruner), by_hand())


def torch_bfloat16() -> Verdict:
    """Autocast to bfloat16, with a GradScaler."""

    def loss(model: nn.Module, step: int) -> Tensor:
        inputs, targets = batch(step)
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(inputs)
        return criterion(scores.float(), targets)

    model, scaler = network(), GradScaler("cpu", init_scale=4.0)
    optimizer, scheduler = adamw(model)
    pruner = lats(optimizer)
    for step in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(scaler.scale(loss(model, step)))
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
    return compare(outcome(model, optimizer, pruner), by_hand(loss=loss))


def torch_compiled() -> Verdict:
    """A compiled optimizer step, compared with a compiled one: AdamW itself rounds otherwise when compiled."""

    def compiled(optimizer: Optimizer) -> Any:
        return torch.compile(lambda: optimizer.step(), backend="eager")

    wanted = by_hand(make_step=compiled)
    model = network()
    optimizer, scheduler = adamw(model)
    pruner = lats(optimizer)
    step_compiled = compiled(optimizer)
    for step in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(mean_loss(model, step))
        step_compiled()
        scheduler.step()
    return compare(outcome(model, optimizer, pruner), wanted)


def loader() -> Any:
    """The data in order."""
    return DataLoader(TensorDataset(*data()), batch_size=BATCH)


# ---------------------------------------------------------------------------------------------------------- Lightning


def lightning_run(folder: Path, epochs: int, resume: Path | None = None, **options: Any) -> tuple[Outcome, Path]:
    """Lightning for so many epochs: the outcome, and its checkpoint."""
    from neuroprune.integrations.lightning import PruningCallback

    pl = require("lightning.pytorch", "integrations")

    class Module(pl.LightningModule):  # type: ignore[misc,name-defined] # of a package that is optional
        """The network, as Lightning wants it."""

        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, parts: Any, _: int) -> Tensor:
            """The loss of a batch."""
            return criterion(self.net(parts[0]), parts[1])

        def configure_optimizers(self) -> Any:
            """AdamW, its scheduler stepping after each batch."""
            optimizer, scheduler = adamw(self.net)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    pruning = PruningCallback(lats)
    module = Module()
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, callbacks=[pruning], default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, **options,
    )  # fmt: skip
    trainer.fit(module, loader(), ckpt_path=resume)
    path = folder / f"after{epochs}.ckpt"
    trainer.save_checkpoint(path)
    found = outcome(module.net, trainer.optimizers[0], pruning.pruner)
    pruning.pruner.finalize()
    return found, path


def lightning() -> Verdict:
    """`Trainer.fit` with the callback."""
    with tempfile.TemporaryDirectory() as folder:
        return compare(lightning_run(Path(folder), STEPS // EPOCH)[0], by_hand())


def lightning_resumed() -> Verdict:
    """Saved after an epoch, and resumed with `ckpt_path`."""
    with tempfile.TemporaryDirectory() as folder:
        _, path = lightning_run(Path(folder), 1)
        return compare(lightning_run(Path(folder), STEPS // EPOCH, path)[0], by_hand())


# ------------------------------------------------------------------------------------------------------- transformers


def transformers_run(folder: Path, steps: int, resume: bool = False) -> Outcome:
    """Hugging Face's Trainer for so many steps, the data in order; it saves at the end."""
    from neuroprune.integrations.transformers import PruningCallback

    hf = require("transformers", "integrations")

    class Model(nn.Module):
        """The network, as Trainer wants it."""

        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
            """Loss and scores."""
            scores = self.net(inputs)
            return {"loss": criterion(scores, labels), "logits": scores}

    class InOrder(hf.Trainer):  # type: ignore[misc,name-defined] # of a package that is optional
        """Trainer without shuffling."""

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset if dataset is None else dataset)

    rows = [{"inputs": x, "labels": y} for x, y in zip(*data(), strict=True)]
    pruning = PruningCallback(lats)
    arguments = hf.TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=BATCH, save_steps=STEPS // 2,
        max_grad_norm=0.0, report_to=[], use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    model = Model()
    optimizer, scheduler = adamw(model.net)
    trainer = InOrder(
        model=model, args=arguments, train_dataset=rows, callbacks=[pruning], optimizers=(optimizer, scheduler)
    )
    trainer.train(resume_from_checkpoint=resume)
    found = outcome(model.net, optimizer, pruning.pruner)
    pruning.pruner.finalize()
    return found


def transformers() -> Verdict:
    """`Trainer.train` with the callback."""
    with tempfile.TemporaryDirectory() as folder:
        return compare(transformers_run(Path(folder), STEPS), by_hand())


def transformers_resumed() -> Verdict:
    """Resumed from the checkpoint after a half."""
    with tempfile.TemporaryDirectory() as folder:
        transformers_run(Path(folder), STEPS // 2)
        return compare(transformers_run(Path(folder), STEPS, resume=True), by_hand())


# --------------------------------------------------------------------------------------------------------- Accelerate


def accelerate_run(folder: Path, first: int, last: int, accumulate: int = 1) -> Outcome:
    """Accelerate from step `first` (its state in the folder) to `last`."""
    made = require("accelerate", "integrations").Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    net = network()
    torch_optimizer, torch_scheduler = adamw(net)
    model, optimizer, scheduler = made.prepare(net, torch_optimizer, torch_scheduler)
    pruner = lats(optimizer.optimizer)
    made.register_for_checkpointing(pruner)
    if first:
        made.load_state(str(folder))
    for step in range(first, last):
        inputs, targets = batch(step)
        for part in range(accumulate):
            rows = slice(part * BATCH // accumulate, (part + 1) * BATCH // accumulate)
            with made.accumulate(model):
                made.backward(criterion(model(inputs[rows]), targets[rows]))
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
    made.save_state(str(folder))
    found = outcome(net, optimizer, pruner)
    pruner.finalize()
    return found


def accelerate() -> Verdict:
    """Prepared by Accelerate; the pruner is given the optimizer inside."""
    with tempfile.TemporaryDirectory() as folder:
        return compare(accelerate_run(Path(folder), 0, STEPS), by_hand())


def accelerate_accumulated() -> Verdict:
    """Gradients of two batches added up."""

    def loss(model: nn.Module, step: int) -> Tensor:
        inputs, targets = batch(step)
        half = BATCH // 2
        torch.autograd.backward(criterion(model(inputs[:half]), targets[:half]) / 2)
        return criterion(model(inputs[half:]), targets[half:]) / 2

    with tempfile.TemporaryDirectory() as folder:
        return compare(accelerate_run(Path(folder), 0, STEPS, accumulate=2), by_hand(loss=loss))


def accelerate_resumed() -> Verdict:
    """`save_state` and `load_state`, the pruner registered for checkpointing."""
    with tempfile.TemporaryDirectory() as folder:
        accelerate_run(Path(folder), 0, STEPS // 2)
        return compare(accelerate_run(Path(folder), STEPS // 2, STEPS), by_hand())


def accelerated_optimizer() -> Verdict:
    """The prepared optimizer itself."""
    made = require("accelerate", "integrations").Accelerator(cpu=True)
    return refused(made.prepare(adamw(network())[0]))


def accelerated_scheduler() -> Verdict:
    """The prepared scheduler, to plan with."""
    made = require("accelerate", "integrations").Accelerator(cpu=True)
    _, scheduler = made.prepare(*adamw(network()))
    try:
        LATS.for_sparsity(0.5, scheduler, STEPS)
    except TypeError as error:
        return Verdict("refused", str(error))
    return Verdict("wrong", "it was taken")


# ------------------------------------------------------------------------------------------- schedule-free, averages


def refused(optimizer: Optimizer) -> Verdict:
    """Whether a pruner refuses an optimizer at once."""
    try:
        SoftThresholdPruner(optimizer, LATS(l1=0.1))
    except (TypeError, ValueError) as error:
        return Verdict("refused", str(error))
    return Verdict("wrong", "it was taken")


def schedule_free(name: str) -> Verdict:
    """One of schedulefree's optimizers, or its wrapper around AdamW."""
    package = require("schedulefree", "integrations")
    base = adamw(network())[0]
    wrapper = package.ScheduleFreeWrapper(base, momentum=0.9)
    if name == "ScheduleFreeWrapper":
        return refused(wrapper)
    if name == "inside ScheduleFreeWrapper":
        return refused(base)
    return refused(getattr(package, name)(network().parameters(), lr=0.01))


def averaged() -> Verdict:
    """An EMA of the weights, made as sparse as the model: every bit the mean's, or zero."""
    model = network()
    optimizer, scheduler = adamw(model)
    pruner = lats(optimizer)
    average: Any = get_ema_multi_avg_fn  # without types
    ema = AveragedModel(model, multi_avg_fn=average(0.9))
    by_formula = [p.detach().clone() for p in model.parameters()]
    for step in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(mean_loss(model, step))
        optimizer.step()
        scheduler.step()
        ema.update_parameters(model)
        now = [p.detach() for p in model.parameters()]
        by_formula = now if step == 0 else [torch.lerp(a, w, 1 - 0.9) for a, w in zip(by_formula, now, strict=True)]
        by_formula = [a.clone() for a in by_formula]
    dense = sum(int((p == 0).sum()) for p in ema.module.parameters() if p.dim() > 1)
    keep_zeros(ema.module, model, pruner.parameters)
    for mean, found, weight in zip(by_formula, ema.module.parameters(), model.parameters(), strict=True):
        wanted = torch.where((weight == 0) & (weight.dim() > 1), 0.0, mean)
        if not torch.equal(found, wanted):
            return Verdict("wrong", "the average differs from the formula's")
    zeros = round(pruner.sparsity() * sum(p.numel() for p in pruner.parameters))
    return Verdict("exact") if dense < zeros else Verdict("wrong", "the average was as sparse before")
