"""Accuracy against synaptic operations, with weights that all cost the same and with measured costs."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from examples.benchmarks.common import Goal, Report, Result, one_thread, summarize
from hw_targets.app.versions import commit
from neuroprune import LATS, SoftThresholdPruner, SynapticCosts, count_synops, prune_to
from neuroprune.training.data.fashion_mnist import fashion_mnist
from neuroprune.training.progress import progress_bar

SPARSITIES, SEEDS, STEPS, TIME_STEPS, BATCH = (0.8, 0.9, 0.95, 0.98), 3, 600, 4, 64
COUNTED = 500
#: Finished runs, one JSON line each; an interrupted benchmark goes on from there.
FINISHED = Path("runs/bench/costs.jsonl")
METHOD = (
    "Fashion-MNIST, a convolutional SNN (16 and 32 channels of 5×5 and stride 2, a matrix; IF neurons,"
    f" T = {TIME_STEPS}, batch-norm), images shown in every step, SGD with momentum, cosine learning rate,"
    f" {STEPS} steps of {BATCH}, {SEEDS} seeds, the same for all. 'costs': the same method with thresholds weighted by"
    " SynapticCosts. Accuracy on the test images, looked at once per run; nothing was chosen. SynOps per image of"
    f" {COUNTED} test images, by count_synops, layers that spikes reach; the first layer, which reads the image, is not"
    " in them. SynOps at equal accuracy are interpolated along the curve of sparsities with costs, their logarithm"
    " linear in accuracy."
)

Images: TypeAlias = tuple[Tensor, Tensor]
MakePruner: TypeAlias = Callable[[nn.Module, Optimizer, CosineAnnealingLR, float], SoftThresholdPruner | None]


class Net(nn.Module):
    """(N, 1, 28, 28) → (N, 10): mean over the steps."""

    def __init__(self) -> None:
        super().__init__()
        spiking: dict[str, Any] = {"surrogate_function": surrogate.ATan(), "step_mode": "m", "detach_reset": True}
        self.net = nn.Sequential(
            layer.Conv2d(1, 16, 5, 2, 2, bias=False, step_mode="m"), layer.BatchNorm2d(16, step_mode="m"),
            neuron.IFNode(**spiking),
            layer.Conv2d(16, 32, 5, 2, 2, bias=False, step_mode="m"), layer.BatchNorm2d(32, step_mode="m"),
            neuron.IFNode(**spiking),
            layer.Flatten(step_mode="m"), layer.Linear(32 * 49, 10, step_mode="m"),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        functional.reset_net(self.net)
        scores: Tensor = self.net(x.expand(TIME_STEPS, *x.shape)).mean(0)
        return scores


def _lats(weighted: bool) -> MakePruner:
    def make(model: nn.Module, optimizer: Optimizer, scheduler: CosineAnnealingLR, sparsity: float) -> Any:
        costs = SynapticCosts(model) if weighted else None
        return SoftThresholdPruner(optimizer, LATS.for_sparsity(sparsity, scheduler, STEPS), costs=costs)

    return make


def _ranked(weighted: bool) -> MakePruner:
    return lambda model, optimizer, _, sparsity: prune_to(
        sparsity, optimizer, steps=STEPS, costs=SynapticCosts(model) if weighted else None
    )


METHODS: dict[str, MakePruner] = {
    "LATS": _lats(weighted=False),
    "LATS, costs": _lats(weighted=True),
    "prune_to": _ranked(weighted=False),
    "prune_to, costs": _ranked(weighted=True),
}


def trained(make: MakePruner | None, sparsity: float, seed: int, data: Images) -> nn.Module:
    """A network of a seed, pruned while it trains."""
    torch.manual_seed(seed)
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-5)
    scheduler = CosineAnnealingLR(optimizer, STEPS)
    pruner = None if make is None else make(model, optimizer, scheduler, sparsity)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        batch = torch.randint(len(data[0]), (BATCH,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(data[0][batch]), data[1][batch]).backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
        scheduler.step()
    if pruner is not None:
        if isinstance(pruner.costs, SynapticCosts):
            pruner.costs.close()
        pruner.finalize()
    return model.eval()


@torch.no_grad()
def measured(model: nn.Module, data: Images) -> dict[str, float]:
    """Accuracy and sparsity in per cent, SynOps per image, and what of them each layer has."""
    starts = range(0, len(data[1]), 500)
    right = sum(int((model(data[0][k : k + 500]).argmax(1) == data[1][k : k + 500]).sum()) for k in starts)
    weights = [p for p in model.parameters() if p.dim() > 1]
    counted = count_synops(model, data[0][:COUNTED])
    return {
        "accuracy": 100 * right / len(data[1]),
        "sparsity": 100 * sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights),
        "synops": counted.total / COUNTED,
        **{f"synops {name}": found.synops / COUNTED for name, found in counted.layers.items() if found.synops},
    }


def run(*, quick: bool = False) -> Report:
    """Every method at every sparsity, with every seed."""
    sparsities, seeds = ((0.9,), 1) if quick else (SPARSITIES, SEEDS)
    report = Report("costs", quick, {"sparsities": sparsities, "seeds": seeds, "steps": STEPS}, METHOD)
    train, test = _images()
    cells: list[tuple[str, float]] = [("dense", 0.0), *((m, s) for s in sparsities for m in METHODS)]
    done = {} if quick else _finished()
    with one_thread(), progress_bar(len(cells) * seeds, "costs") as bar:
        for method, sparsity in cells:
            for seed in range(seeds):
                name = f"{method}/{100 * sparsity:g} %/{seed}"
                if name not in done:
                    model = trained(METHODS.get(method), sparsity, seed, train)
                    done[name] = {**measured(model, test), "commit": commit()}
                    if not quick:
                        _note(name, done[name])
                report.values[name] = done[name]
                bar.update()
    for base in ("LATS", "prune_to"):
        _compare(report, base, sparsities, seeds)
    return report


def _images() -> tuple[Images, Images]:
    """Training images, without those for validation, which nothing is chosen on here; test images."""
    data = fashion_mnist()
    train, test = ((part.as_input(part.images), part.labels) for part in (data.train, data.test))
    return train, test


def _compare(report: Report, base: str, sparsities: tuple[float, ...], seeds: int) -> None:
    """SynOps without costs over those with, at the same sparsity, and the difference in accuracy."""
    for sparsity in sparsities:
        pairs = [
            [report.values[f"{m}/{100 * sparsity:g} %/{seed}"] for m in (base, f"{base}, costs")]
            for seed in range(seeds)
        ]
        where = f"{base}, {100 * sparsity:g} % zeros"
        fewer = summarize([plain["synops"] / max(weighted["synops"], 1.0) for plain, weighted in pairs])
        points = summarize([weighted["accuracy"] - plain["accuracy"] for plain, weighted in pairs])
        report.results.append(Result(f"{where}/fewer", f"{where}: SynOps without costs / with", fewer))
        report.results.append(Result(f"{where}/points", f"{where}: accuracy with costs − without, points", points))
    if (ratio := _at_equal_accuracy(report, base, sparsities, seeds)) is not None:
        label = f"{base}: SynOps without costs / with, at the accuracy without costs"
        report.results.append(Result(f"{base}/equal", label, summarize(ratio), Goal(3.0, at_least=True), headline=True))


def _at_equal_accuracy(report: Report, base: str, sparsities: tuple[float, ...], seeds: int) -> list[float] | None:
    """By sparsity: mean SynOps of `base` over what the curve with costs takes for the same mean accuracy."""
    curves = []
    for method in (base, f"{base}, costs"):
        runs = [[report.values[f"{method}/{100 * s:g} %/{seed}"] for seed in range(seeds)] for s in sparsities]
        curves.append([[statistics.fmean(r[key] for r in each) for key in ("accuracy", "synops")] for each in runs])
    found = []
    for accuracy, synops in curves[0]:
        on_curve = [
            math.exp(math.log(s1) + (accuracy - a1) / (a2 - a1) * (math.log(s2) - math.log(s1)))
            for (a1, s1), (a2, s2) in zip(curves[1], curves[1][1:], strict=False)
            if min(a1, a2) <= accuracy <= max(a1, a2) and a1 != a2
        ]
        if on_curve:
            found.append(synops / min(on_curve))
    return found or None


def _finished() -> dict[str, dict[str, Any]]:
    if not FINISHED.exists():
        return {}
    lines = [json.loads(line) for line in FINISHED.read_text().splitlines()]
    return {line["name"]: line["found"] for line in lines}


def _note(name: str, found: dict[str, Any]) -> None:
    FINISHED.parent.mkdir(parents=True, exist_ok=True)
    with FINISHED.open("a") as file:
        file.write(json.dumps({"name": name, "found": found}, ensure_ascii=False) + "\n")
