"""What every pruning method adds to a training step of a SEW ResNet, side by side in one run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from examples.benchmarks.common import Goal, Report, interleave, one_thread
from examples.benchmarks.frontier.methods import METHODS, Run
from examples.benchmarks.training_step import BATCH, HYPER, SIZE, TIME_STEPS, build
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training.data.images import ImageSet
from neuroprune.training.loop import predictor

#: Steps per timed action, so that work done every few steps (masks rewired, sparsity measured) is seen at all.
STEPS = 4
#: Steps the methods are told the run has, and the sparsity to reach.
PLANNED, TARGET = 2_000, 0.9
#: Methods that prune once, before the run: their steps are those of a fixed mask.
_ONCE = ("dense", "pai", "snip", "synflow")
_OURS = ("lats", "pgh", "slats", "stds-linear", "stds-sine", "str")
METHOD = (
    f"Each round times {STEPS} steps (forward, backward, optimizer step) of every method, in random order; ratios are"
    f" paired by round. All methods are told to reach {TARGET:.0%} in {PLANNED} steps. 'plain again' is a second"
    " unpruned network: its ratio shows the noise. Methods that choose a mask before training step as the fixed mask"
    " does."
)


def run(*, quick: bool = False) -> Report:
    """Measure every method that acts during training, and the two ways torch itself offers."""
    rounds, batch = (2, 4) if quick else (25, BATCH)
    parameters = {"time_steps": TIME_STEPS, "batch": batch, "image": SIZE, "rounds": rounds, "optimizer": str(HYPER)}
    report = Report("method_steps", quick, parameters, METHOD)
    with one_thread():
        actions = {name: _torch_step(name, batch) for name in ("plain", "plain again", "parametrize", "prune mask")}
        names = [name for name in METHODS if name not in _ONCE and "+" not in name]
        actions |= {name: _method_step(name, batch) for name in names}
        report.samples["methods"] = interleave(actions, rounds, title="training step of every method")
    labels = {"parametrize": "soft threshold through parametrize", "prune mask": "fixed mask of torch.nn.utils.prune"}
    for name in actions:
        if name != "plain":
            label = f"training step: {labels.get(name, name)} / no pruning"
            goal = Goal(1.03) if name in _OURS else None
            report.add_ratio("methods", name, "plain", label, goal=goal, headline=name != "plain again")
    return report


def _torch_step(name: str, batch: int) -> Callable[[], None]:
    variant = build(name, "m", batch)

    def steps() -> None:
        for _ in range(STEPS):
            variant.step()

    return steps


def _method_step(name: str, batch: int) -> Callable[[], None]:
    torch.manual_seed(0)
    model = SmallSEWResNet(step_mode="m")
    predict = predictor(model, TIME_STEPS)
    images, labels = torch.rand(batch, 1, SIZE, SIZE), torch.randint(0, 10, (batch,))
    optimizer = HYPER.optimizer(model)
    scheduler = HYPER.scheduler(optimizer, PLANNED)
    data = ImageSet((images * 255).to(torch.uint8), labels)
    knob = None if (found := METHODS[name].knob) is None else found.start
    handle = METHODS[name].attach(
        Run(model, optimizer, scheduler, PLANNED, TARGET, data, predict, HYPER, TIME_STEPS, knob)
    )

    def steps() -> None:
        for _ in range(STEPS):
            loss = F.cross_entropy(predict(model, images), labels)
            handle.optimizer.zero_grad()
            torch.autograd.backward(loss)
            handle.optimizer.step()
            scheduler.step()

    return steps
