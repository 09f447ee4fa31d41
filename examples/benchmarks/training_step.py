"""What pruning adds to one training step of a SEW ResNet, in time and in memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune
from torch.optim import Optimizer

from examples.benchmarks.common import Goal, Report, Result, interleave, one_thread, summarize
from neuroprune import LATS, SoftThresholdPruner
from neuroprune.frameworks import framework_of
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training.loop import Hyperparameters, predictor

TIME_STEPS, BATCH, SIZE = 4, 64, 28
HYPER = Hyperparameters(lr=0.01)
L1 = 5e-4
TIME_GOAL = Goal(1.03)
MEMORY_GOAL = Goal(1.0)
_PAT = "torchao.prototype.pat.optim"
METHOD = (
    "Each round times one step (forward, backward, optimizer step) of every variant, in random order; ratios are paired"
    " by round. 'plain again' is a second unpruned network: its ratio shows the noise. Held bytes: storages of all"
    " tensors alive in the process (found through the garbage collector) with a variant built and two steps taken,"
    " minus those before it was built; gradients and neuron states are freed first. Peak: held bytes plus the largest"
    " running sum of the CPU allocator's allocations and frees within one step, as torch.profiler records them."
)


@dataclass
class Variant:
    """A network with its optimizer and what prunes it (kept alive here)."""

    model: nn.Module
    optimizer: Any
    keep: object
    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        self.predict = predictor(self.model, TIME_STEPS)

    def step(self) -> None:
        """One training step."""
        loss = F.cross_entropy(self.predict(self.model, self.images), self.labels)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()

    def forget(self) -> None:
        """Free gradients, and neuron states with the graph that hangs on them."""
        self.optimizer.zero_grad()
        framework = framework_of(self.model)
        assert framework is not None
        framework.reset(self.model)


class _StraightThrough(torch.autograd.Function):
    """S_d(θ) with identity gradient."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, threshold: float) -> Tensor:  # noqa: ARG004 - the interface
        """S_d(θ)."""
        return F.softshrink(theta, threshold)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004 - the interface
        """Identity."""
        return gradient, None


class _SoftThreshold(nn.Module):
    """The published way: weights reparameterised in every forward pass, with a threshold that grows each step."""

    threshold = 1e-5

    def forward(self, theta: Tensor) -> Tensor:
        """S_d(θ)."""
        result: Tensor = _StraightThrough.apply(theta, self.threshold)  # type: ignore[no-untyped-call]  # torch's
        return result


def _weighted(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def _plain(model: nn.Module) -> tuple[Optimizer, object]:
    return HYPER.optimizer(model), None


def _pruner(model: nn.Module) -> tuple[Optimizer, object]:
    optimizer = HYPER.optimizer(model)
    return optimizer, SoftThresholdPruner(optimizer, LATS(l1=L1))


def _parametrized(model: nn.Module) -> tuple[Optimizer, object]:
    for module in _weighted(model):
        parametrize.register_parametrization(module, "weight", _SoftThreshold())
    return HYPER.optimizer(model), None


def _masked(model: nn.Module) -> tuple[Optimizer, object]:
    for module in _weighted(model):
        prune.l1_unstructured(module, "weight", amount=0.9)  # type: ignore[no-untyped-call]  # torch's
    return HYPER.optimizer(model), None


def _pat(model: nn.Module) -> tuple[Optimizer, object]:
    optimizer = HYPER.optimizer(model)
    optimizer.param_groups[0].update(prox_type="ProxLasso", group_type="ElemGrouper", reg_lambda=L1)
    return import_module(_PAT).PruneOptimizer(optimizer), None


_BUILDERS: dict[str, tuple[str, Callable[[nn.Module], tuple[Optimizer, object]]]] = {
    "plain": ("no pruning", _plain),
    "plain again": ("no pruning, a second time (noise)", _plain),
    "pruner": ("SoftThresholdPruner", _pruner),
    "parametrize": ("soft threshold through torch.nn.utils.parametrize", _parametrized),
    "prune mask": ("fixed mask of torch.nn.utils.prune", _masked),
    "torchao PAT": ("torchao PAT (ProxLasso)", _pat),
}


def run(*, quick: bool = False) -> Report:
    """Measure time in multi-step and single-step mode, and memory in multi-step mode."""
    rounds, batch = (3, 8) if quick else (40, BATCH)
    parameters = {"time_steps": TIME_STEPS, "batch": batch, "image": SIZE, "rounds": rounds, "optimizer": str(HYPER)}
    report = Report("training_step", quick, parameters, METHOD)
    with one_thread():
        names = _available(report)
        _measure_time(report, "m", "multi-step", names, batch, rounds)
        _measure_time(report, "s", "single-step", names, batch, rounds)
        _measure_memory(report, names, batch)
    return report


def _available(report: Report) -> list[str]:
    try:
        import_module(_PAT)
    except ImportError as error:
        report.skipped["torchao PAT"] = f"not importable: {error}"
    return [name for name in _BUILDERS if name not in report.skipped]


def build(name: str, mode: Literal["m", "s"], batch: int) -> Variant:
    """A variant by name, in multi-step or single-step mode."""
    torch.manual_seed(0)
    model = SmallSEWResNet(step_mode=mode)
    optimizer, keep = _BUILDERS[name][1](model)
    return Variant(model, optimizer, keep, torch.rand(batch, 1, SIZE, SIZE), torch.randint(0, 10, (batch,)))


def _measure_time(
    report: Report, mode: Literal["m", "s"], title: str, names: list[str], batch: int, rounds: int
) -> None:
    variants = {name: build(name, mode, batch) for name in names}
    steps = {name: variant.step for name, variant in variants.items()}
    report.samples[title] = interleave(steps, rounds, title=f"training step, {title}")
    for name in names[1:]:
        own = name == "pruner"
        label = f"training step, {title}: {_BUILDERS[name][0]} / no pruning"
        report.add_ratio(title, name, "plain", label, goal=TIME_GOAL if own else None, headline=name != "plain again")


def _measure_memory(report: Report, names: list[str], batch: int) -> None:
    held, peak, weights = {}, {}, 0
    for name in names:
        if name == "plain again":
            continue
        before = _live_bytes()
        variant = build(name, "m", batch)
        for _ in range(2):
            variant.step()
        variant.forget()
        held[name] = _live_bytes() - before
        peak[name] = held[name] + _transient_peak(variant.step)
        if name == "plain":
            weights = sum(p.numel() * p.element_size() for p in variant.model.parameters() if p.dim() >= 2)
        del variant
    report.values["memory_bytes"] = {"prunable_weights": weights, "held": held, "peak_of_step": peak}
    for name in held:
        if name == "plain":
            continue
        own, what = name == "pruner", _BUILDERS[name][0]
        extra = summarize([(held[name] - held["plain"]) / weights])
        goal = MEMORY_GOAL if own else None
        report.results.append(Result(f"held/{name}", f"memory held by {what} / weights", extra, goal, own))
        ratio = summarize([peak[name] / peak["plain"]])
        report.results.append(Result(f"peak/{name}", f"peak memory of a step: {what} / no pruning", ratio))


def _live_bytes() -> int:
    """Bytes in storages of all tensors alive in this process."""
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if issubclass(type(item), Tensor) and item.layout == torch.strided:
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _transient_peak(step: Callable[[], object]) -> int:
    """Largest running sum of bytes allocated minus bytes freed while `step` runs."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profile:
        step()
    events: Any = profile.profiler
    changes = [(e.start_ns(), e.nbytes()) for e in events.kineto_results.events() if e.name() == "[memory]"]
    total = peak = 0
    for _, change in sorted(changes):
        total += change
        peak = max(peak, total)
    return peak
