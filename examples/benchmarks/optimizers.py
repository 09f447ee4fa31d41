"""Accuracy of LATS, PGH, `prune_to` and gradual magnitude pruning, by optimizer, from scratch and fine-tuning."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from examples.benchmarks.common import Goal, Report, Result, one_thread, summarize
from neuroprune import LATS, PGH, SoftThresholdPruner, prune_to
from neuroprune.training.loop import progress_bar

SPARSITIES, SEEDS = (0.8, 0.9, 0.95, 0.98), 5
TRAIN = 1297
METHOD = (
    "Handwritten digits of scikit-learn (8×8 pixels; 1297 to train on, 500 to test on), an MLP 64-128-64-10, batches of"
    " 64 drawn with replacement, cosine learning rate, 5 seeds, the same budget for all; the test set is looked at once"
    " per run, after training. Nothing is tuned here, but the ramp of prune_to (half of the run) had been chosen on the"
    " same digits. gmp: gradual magnitude pruning (Zhu & Gupta, 2017), cubic from 10 to 73 % of the run, every 8 steps,"
    " for good. Fine-tuning starts from a network that AdamW (3e-3, 1000 steps) trained. Differences are"
    " paired by seed, in points."
)

Batches = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Setting:
    """An optimizer, a budget, and whether a trained network is the start."""

    optimizer: str
    lr: float
    steps: int
    trained: bool = False

    def __str__(self) -> str:
        return f"{'fine-tuning, ' if self.trained else ''}{self.optimizer} {self.lr:g}, {self.steps} steps"


SETTINGS = (
    Setting("AdamW", 3e-3, 300),
    Setting("AdamW", 3e-3, 1000),
    Setting("SGD", 0.1, 300),
    Setting("SGD", 0.1, 1000),
    Setting("AdamW", 1e-4, 300, trained=True),
    Setting("SGD", 1e-2, 300, trained=True),
)
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], float], Optimizer]] = {
    "AdamW": lambda parameters, lr: torch.optim.AdamW(parameters, lr, weight_decay=1e-2),
    "SGD": lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.9, nesterov=True),
}


class GradualMagnitude:
    """The peer: masks by magnitude over all matrices, on the schedule that METHOD says."""

    def __init__(self, weights: list[nn.Parameter], sparsity: float, steps: int) -> None:
        self._weights, self._sparsity, self._steps = weights, sparsity, steps
        self._masks = [torch.ones_like(w) for w in weights]

    @torch.no_grad()
    def after(self, step: int) -> None:
        """Prune after an optimizer step."""
        start, length = 0.1 * self._steps, 0.63 * self._steps
        if start <= step <= start + length and (step % 8 == 0 or step == int(start + length)):
            share = self._sparsity * (1 - (1 - min(1.0, (step - start) / length)) ** 3)
            if step == int(start + length):
                share = self._sparsity
            every = torch.cat([w.abs().flatten() for w in self._weights])
            limit = every.kthvalue(max(1, round(share * every.numel()))).values
            self._masks = [(w.abs() > limit).to(w.dtype) for w in self._weights]
        for weight, mask in zip(self._weights, self._masks, strict=True):
            weight.mul_(mask)


def digits() -> tuple[Batches, Batches]:
    """Training and test samples."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16.0, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return (x[order[:TRAIN]], y[order[:TRAIN]]), (x[order[TRAIN:]], y[order[TRAIN:]])


def perceptron() -> nn.Sequential:
    """64-128-64-10."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def trained(method: str, sparsity: float, setting: Setting, start: nn.Module, data: Batches, seed: int) -> nn.Module:
    """A copy of `start`, trained and pruned."""
    model = copy.deepcopy(start)
    optimizer = OPTIMIZERS[setting.optimizer](list(model.parameters()), setting.lr)
    scheduler = CosineAnnealingLR(optimizer, setting.steps)
    weights = [p for p in model.parameters() if p.dim() > 1]
    peer = GradualMagnitude(weights, sparsity, setting.steps) if method == "gmp" else None
    pruner: SoftThresholdPruner | None = None
    if method == "prune_to":
        pruner = prune_to(sparsity, optimizer, steps=setting.steps)
    elif method in ("LATS", "PGH"):
        steered = LATS.for_sparsity if method == "LATS" else PGH.for_sparsity
        pruner = SoftThresholdPruner(optimizer, steered(sparsity, scheduler, setting.steps))
    generator = torch.Generator().manual_seed(seed)
    for step in range(setting.steps):
        batch = torch.randint(len(data[0]), (64,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(data[0][batch]), data[1][batch]).backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
        scheduler.step()
        if peer is not None:
            peer.after(step)
    if pruner is not None:
        pruner.finalize()
    return model


@torch.no_grad()
def accuracy(model: nn.Module, data: Batches) -> float:
    """Per cent."""
    return 100 * float((model(data[0]).argmax(1) == data[1]).float().mean())


def zeros(model: nn.Module) -> float:
    """Share of zeros in the matrices, in per cent."""
    weights = [p for p in model.parameters() if p.dim() > 1]
    return 100 * sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def run(*, quick: bool = False) -> Report:
    """Every method in every setting, at every sparsity, with every seed."""
    settings, sparsities, seeds = (SETTINGS[:1], (0.9,), 1) if quick else (SETTINGS, SPARSITIES, SEEDS)
    parameters = {"settings": [str(s) for s in settings], "sparsities": sparsities, "seeds": seeds}
    report = Report("optimizers", quick, parameters, METHOD)
    methods = ("LATS", "PGH", "gmp", "prune_to")
    train, test = digits()
    with one_thread(), progress_bar(len(settings) * len(sparsities) * seeds, "optimizers") as bar:
        for setting in settings:
            starts = [_start(seed, setting, train) for seed in range(seeds)]
            dense = [accuracy(trained("dense", 0.0, setting, s, train, k), test) for k, s in enumerate(starts)]
            report.values[f"{setting}/dense"] = {"accuracy": dense}
            for sparsity in sparsities:
                found: dict[str, list[float]] = {m: [] for m in methods}
                reached: dict[str, list[float]] = {m: [] for m in methods}
                for seed, start in enumerate(starts):
                    for method in methods:
                        model = trained(method, sparsity, setting, start, train, seed)
                        found[method].append(accuracy(model, test))
                        reached[method].append(zeros(model))
                    bar.update()
                _add(report, setting, sparsity, found, reached)
    return report


def _start(seed: int, setting: Setting, data: Batches) -> nn.Module:
    torch.manual_seed(seed)
    model = perceptron()
    return trained("dense", 0.0, Setting("AdamW", 3e-3, 1000), model, data, 1000 + seed) if setting.trained else model


def _add(
    report: Report, setting: Setting, sparsity: float, found: dict[str, list[float]], reached: dict[str, list[float]]
) -> None:
    for method, accuracies in found.items():
        report.values[f"{setting}/{100 * sparsity:g} %/{method}"] = {
            "accuracy": accuracies, "sparsity": reached[method],
            "mean": statistics.fmean(accuracies),
            "deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        }  # fmt: skip
    for method in ("LATS", "PGH", "prune_to"):
        ahead = [a - b for a, b in zip(found[method], found["gmp"], strict=True)]
        label = f"{setting}, {100 * sparsity:g} % zeros: {method} − gmp, points"
        goal = Goal(-0.3, at_least=True) if method == "prune_to" else None
        report.results.append(Result(f"{setting}/{sparsity}/{method}", label, summarize(ahead), goal))
