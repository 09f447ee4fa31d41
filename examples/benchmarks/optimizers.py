"""Accuracy of LATS, PGH, `prune_to` and gradual magnitude pruning, by optimizer, from scratch and fine-tuning."""

from __future__ import annotations

import copy
import json
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from examples.benchmarks.common import Goal, Report, Result, one_thread, summarize
from hw_targets.app.versions import commit
from neuroprune import LATS, PGH, HardThreshold, Preconditioner, SoftThresholdPruner, SparsityRamp, prune_to
from neuroprune.training.progress import progress_bar

SPARSITIES, SEEDS = (0.8, 0.9, 0.95, 0.98, 0.99), 5
TRAIN, VALIDATION = 1000, 297
#: Finished runs, one JSON line each; an interrupted benchmark goes on from there.
FINISHED = Path("runs/bench/optimizers.jsonl")
METHOD = (
    "Handwritten digits of scikit-learn (8×8 pixels; 1000 to train on, 297 for validation, 500 for the test), an MLP"
    " 64-128-64-10, batches of 64 drawn with replacement, cosine learning rate, 5 seeds, the same budget for all. What"
    " prune_to is (the metric and its damping) was chosen on the validation images, but for the ramp's half, which had"
    " been chosen with the test images; the candidates ('rank', 'rank √v': without the metric, and without damping)"
    " have no test accuracy. The test images are looked at once per run of a method, after training."
    " gmp: gradual magnitude pruning (Zhu & Gupta, 2017), cubic from 10 to 73 % of the run, every 8 steps, for good."
    " Fine-tuning starts from a network that AdamW (3e-3, 1000 steps) trained; 'cut' is its magnitude cut without"
    " training. Differences are paired by seed, in points of test accuracy."
)

Batches: TypeAlias = tuple[Tensor, Tensor]
#: Makes a pruner for an optimizer, its scheduler, a sparsity and the steps of the run.
MakePruner: TypeAlias = Callable[[Optimizer, CosineAnnealingLR, float, int], SoftThresholdPruner]


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
    Setting("AdamW", 1e-2, 300),
    Setting("AdamW", 3e-3, 1000),
    Setting("AdamW", 1e-3, 3000),
    Setting("SGD", 0.1, 300),
    Setting("SGD", 0.1, 1000),
    *(Setting("AdamW", lr, 300, trained=True) for lr in (1e-5, 1e-4, 1e-3, 1e-2)),
    *(Setting("SGD", lr, 300, trained=True) for lr in (1e-5, 1e-3, 1e-2)),
)
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], float], Optimizer]] = {
    "AdamW": lambda parameters, lr: torch.optim.AdamW(parameters, lr, weight_decay=1e-2),
    "SGD": lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.9, nesterov=True),
}


def _ranked(precondition: Preconditioner | None) -> MakePruner:
    return lambda optimizer, _, sparsity, steps: SoftThresholdPruner(
        optimizer, SparsityRamp(sparsity, steps), proximal=HardThreshold(), precondition=precondition
    )


PRUNERS: dict[str, MakePruner] = {
    "LATS": lambda o, scheduler, s, steps: SoftThresholdPruner(o, LATS.for_sparsity(s, scheduler, steps)),
    "PGH": lambda o, scheduler, s, steps: SoftThresholdPruner(o, PGH.for_sparsity(s, scheduler, steps)),
    "prune_to": lambda optimizer, _, sparsity, steps: prune_to(sparsity, optimizer, steps=steps),
    "rank": _ranked(None),
    "rank √v": _ranked(Preconditioner()),
}
#: What prune_to was chosen among, on validation images alone.
CANDIDATES = ("rank", "rank √v")


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
            self._masks = masks(self._weights, share)
        for weight, mask in zip(self._weights, self._masks, strict=True):
            weight.mul_(mask)


def masks(weights: list[nn.Parameter], share: float) -> list[Tensor]:
    """0 where |w| is among that share of the smallest of all."""
    every = torch.cat([w.detach().abs().flatten() for w in weights])
    limit = every.kthvalue(max(1, round(share * every.numel()))).values
    return [(w.detach().abs() > limit).to(w.dtype) for w in weights]


def digits() -> tuple[Batches, Batches, Batches]:
    """Training, validation and test samples."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16.0, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, validation, test = order[:TRAIN], order[TRAIN : TRAIN + VALIDATION], order[TRAIN + VALIDATION :]
    return (x[train], y[train]), (x[validation], y[validation]), (x[test], y[test])


def perceptron(seed: int) -> nn.Sequential:
    """64-128-64-10."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """What is pruned."""
    return [p for p in model.parameters() if p.dim() > 1]


def trained(method: str, sparsity: float, setting: Setting, start: nn.Module, data: Batches, seed: int) -> nn.Module:
    """A copy of `start`, trained and pruned."""
    model = copy.deepcopy(start)
    if method == "cut":
        with torch.no_grad():
            for weight, mask in zip(matrices(model), masks(matrices(model), sparsity), strict=True):
                weight.mul_(mask)
        return model
    optimizer = OPTIMIZERS[setting.optimizer](list(model.parameters()), setting.lr)
    scheduler = CosineAnnealingLR(optimizer, setting.steps)
    peer = GradualMagnitude(matrices(model), sparsity, setting.steps) if method == "gmp" else None
    make = PRUNERS.get(method)
    pruner = None if make is None else make(optimizer, scheduler, sparsity, setting.steps)
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
    weights = matrices(model)
    return 100 * sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def methods_of(setting: Setting) -> list[str]:
    """Methods and candidates that make a difference in a setting; in the longer runs the main ones alone."""
    methods = ["LATS", "gmp", "prune_to"]
    if setting.steps <= 300:
        methods += [] if setting.trained else ["PGH"]
        methods += CANDIDATES if setting.optimizer == "AdamW" else ()
    return [*methods, "cut"] if setting.trained else methods


def sparsities_of(setting: Setting, sparsities: tuple[float, ...]) -> tuple[float, ...]:
    """Those up to 95 % alone in the longest run."""
    return tuple(s for s in sparsities if s <= 0.95) if setting.steps > 1000 else sparsities


def cells(settings: tuple[Setting, ...], sparsities: tuple[float, ...]) -> Iterator[tuple[Setting, float, str]]:
    """Every setting with every sparsity and method; dense ones have sparsity 0."""
    for setting in settings:
        yield setting, 0.0, "dense"
        for sparsity in sparsities_of(setting, sparsities):
            for method in methods_of(setting):
                yield setting, sparsity, method


def run(*, quick: bool = False) -> Report:
    """Every method in every setting, at every sparsity, with every seed."""
    settings, sparsities, seeds = (SETTINGS[:1], (0.9,), 1) if quick else (SETTINGS, SPARSITIES, SEEDS)
    parameters = {"settings": [str(s) for s in settings], "sparsities": sparsities, "seeds": seeds}
    report = Report("optimizers", quick, parameters, METHOD)
    every = list(cells(settings, sparsities))
    done = {} if quick else _finished()
    starts: dict[tuple[int, bool], nn.Module] = {}
    data = digits()
    with one_thread(), progress_bar(len(every), "optimizers") as bar:
        for setting, sparsity, method in every:
            name = f"{setting}/{100 * sparsity:g} %/{method}"
            if name not in done and not quick:
                done = _finished()  # others may work on the same list
            if name not in done:
                done[name] = {**_measured(setting, sparsity, method, seeds, data, starts), "commit": commit()}
                if not quick:
                    _note(name, done[name])
            report.values[name] = done[name]
            bar.update()
    report.parameters["commits"] = sorted({found["commit"] for found in report.values.values()})
    for setting in settings:
        for sparsity in sparsities_of(setting, sparsities):
            _compare(report, setting, sparsity)
    return report


def _measured(
    setting: Setting,
    sparsity: float,
    method: str,
    seeds: int,
    data: tuple[Batches, Batches, Batches],
    starts: dict[tuple[int, bool], nn.Module],
) -> dict[str, Any]:
    train, validation, test = data
    found: dict[str, Any] = {"validation": [], "sparsity": []}
    if method not in CANDIDATES:
        found["accuracy"] = []
    for seed in range(seeds):
        key = (seed, setting.trained)
        if key not in starts:
            starts[key] = _start(seed, setting.trained, train)
        model = trained(method, sparsity, setting, starts[key], train, seed)
        found["validation"].append(accuracy(model, validation))
        found["sparsity"].append(zeros(model))
        if "accuracy" in found:
            found["accuracy"].append(accuracy(model, test))
    for name in ("validation", *(["accuracy"] if "accuracy" in found else [])):
        found[f"{name}_mean"] = statistics.fmean(found[name])
        found[f"{name}_error"] = statistics.stdev(found[name]) / math.sqrt(seeds) if seeds > 1 else 0.0
    return found


def _start(seed: int, is_trained: bool, data: Batches) -> nn.Module:
    model = perceptron(seed)
    return trained("dense", 0.0, Setting("AdamW", 3e-3, 1000), model, data, 1000 + seed) if is_trained else model


def _finished() -> dict[str, dict[str, Any]]:
    if not FINISHED.exists():
        return {}
    lines = [json.loads(line) for line in FINISHED.read_text().splitlines()]
    return {line["name"]: line["found"] for line in lines}


def _note(name: str, found: dict[str, Any]) -> None:
    FINISHED.parent.mkdir(parents=True, exist_ok=True)
    with FINISHED.open("a") as file:
        file.write(json.dumps({"name": name, "found": found}, ensure_ascii=False) + "\n")


def _compare(report: Report, setting: Setting, sparsity: float) -> None:
    """prune_to against gmp and, in fine-tuning, the cut without training; where it is not first, by how much."""
    where = f"{setting}/{100 * sparsity:g} %"
    own = report.values[f"{where}/prune_to"]
    for peer in ("gmp", "cut") if setting.trained else ("gmp",):
        ahead = [a - b for a, b in zip(own["accuracy"], report.values[f"{where}/{peer}"]["accuracy"], strict=True)]
        label = f"{setting}, {100 * sparsity:g} % zeros: prune_to − {peer}, points"
        report.results.append(Result(f"{where}/{peer}", label, summarize(ahead), Goal(-0.3, at_least=True)))
        if statistics.fmean(ahead) < (-0.3 if peer == "gmp" else 0.0):
            report.values.setdefault("behind", {})[f"{where}/{peer}"] = statistics.fmean(ahead)
    peers = [m for m in methods_of(setting) if m not in ("prune_to", *CANDIDATES)]
    others = {m: report.values[f"{where}/{m}"]["accuracy_mean"] for m in peers}
    best = max(others, key=lambda method: others[method])
    error = math.hypot(own["accuracy_error"], report.values[f"{where}/{best}"]["accuracy_error"])
    if own["accuracy_mean"] < others[best] - error:
        report.values.setdefault("not first", {})[f"{where}/{best}"] = own["accuracy_mean"] - others[best]
