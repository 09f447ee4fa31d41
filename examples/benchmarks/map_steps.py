"""What proximal maps, ranks, costs and preconditioned thresholds add to a training step of a SEW ResNet."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from examples.benchmarks.common import Goal, Report, interleave, one_thread
from examples.benchmarks.training_step import HYPER, L1, SIZE, TIME_STEPS, Variant
from neuroprune import (
    LATS,
    Garrote,
    HardThreshold,
    Preconditioner,
    SoftThreshold,
    SoftThresholdPruner,
    SynapticCosts,
    prune_to,
)
from neuroprune.models.sew_resnet import SmallSEWResNet

#: Steps per timed action, and those a ramp is told to have: it looks at the weights once in each action.
STEPS, PLANNED, TARGET = 10, 1000, 0.9
#: Small, so that what a pruner adds is a larger share of a step.
BATCH = 32
METHOD = (
    f"Each round times {STEPS} steps (forward, backward, optimizer step) of every variant, in random order; ratios are"
    f" paired by round, to the same optimizer without pruning. prune_to is told to reach {TARGET:.0%} in {PLANNED}"
    f" steps, so that it ranks the weights once in every {STEPS} (a hundredth of the run). 'costs' are SynapticCosts,"
    f" measured once in every {STEPS} steps (k = {STEPS}, their default). 'again' is a second unpruned network: its"
    " ratio shows the noise."
)
Attach = Callable[[Optimizer, nn.Module], object]
PRUNERS: dict[str, tuple[str, Attach, float | None]] = {
    "plain": ("SGD", lambda *_: None, None),
    "again": ("SGD", lambda *_: None, None),
    "soft": ("SGD", lambda o, _: SoftThresholdPruner(o, LATS(l1=L1), proximal=SoftThreshold()), 1.03),
    "hard": ("SGD", lambda o, _: SoftThresholdPruner(o, LATS(l1=L1), proximal=HardThreshold()), 1.03),
    "garrote": ("SGD", lambda o, _: SoftThresholdPruner(o, LATS(l1=L1), proximal=Garrote()), 1.03),
    "prune_to": ("SGD", lambda o, _: prune_to(TARGET, o, steps=PLANNED), 1.03),
    "prune_to, costs": (
        "SGD",
        lambda o, model: prune_to(TARGET, o, steps=PLANNED, costs=SynapticCosts(model, every=STEPS)),
        1.05,
    ),
    "AdamW plain": ("AdamW", lambda *_: None, None),
    "AdamW again": ("AdamW", lambda *_: None, None),
    "AdamW soft, preconditioned": (
        "AdamW",
        lambda o, _: SoftThresholdPruner(o, LATS(l1=L1), precondition=Preconditioner()),
        1.06,
    ),
    "AdamW prune_to, preconditioned": ("AdamW", lambda o, _: prune_to(TARGET, o, steps=PLANNED), 1.06),
}


def run(*, quick: bool = False) -> Report:
    """Time every variant."""
    rounds, batch = (2, 4) if quick else (15, BATCH)
    parameters = {"time_steps": TIME_STEPS, "batch": batch, "image": SIZE, "rounds": rounds, "optimizer": str(HYPER)}
    report = Report("map_steps", quick, parameters, METHOD)
    with one_thread():
        actions = {name: _steps(name, batch) for name in PRUNERS}
        report.samples["maps"] = interleave(actions, rounds, title="training step of every map", warmup=1)
    for name, (optimizer, _, limit) in PRUNERS.items():
        base = "plain" if optimizer == "SGD" else "AdamW plain"
        if name != base:
            goal = None if limit is None else Goal(limit)
            report.add_ratio("maps", name, base, f"training step: {name} / no pruning", goal=goal)
    return report


def _steps(name: str, batch: int) -> Callable[[], None]:
    torch.manual_seed(0)
    model: nn.Module = SmallSEWResNet(step_mode="m")
    kind, attach, _ = PRUNERS[name]
    optimizer = HYPER.optimizer(model) if kind == "SGD" else torch.optim.AdamW(model.parameters(), 1e-3)
    images, labels = torch.rand(batch, 1, SIZE, SIZE), torch.randint(0, 10, (batch,))
    variant = Variant(model, optimizer, attach(optimizer, model), images, labels)

    def steps() -> None:
        for _ in range(STEPS):
            variant.step()

    return steps
