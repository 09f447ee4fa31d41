"""How near `LATS.for_sparsity` ends to the sparsity asked for, over configurations drawn at random."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from examples.benchmarks.common import Goal, Report, Result, one_thread, summarize
from neuroprune import LATS, SoftThresholdPruner
from neuroprune.training.data.fashion_mnist import fashion_mnist
from neuroprune.training.progress import progress_bar

SEED, COUNT = 2023, 30
IMAGES, BATCH, TIME_STEPS = 6000, 64, 4
SPARSITIES, STEPS = (0.5, 0.99), (400, 1000)
#: Points (1/100) between the sparsity asked for and the one reached.
ERROR = Goal(0.1)
METHOD = (
    f"Configurations drawn once from seed {SEED}, none left out: model, optimizer and LR schedule uniformly, sparsity"
    f" uniformly from {SPARSITIES}, steps uniformly from {STEPS}. First {IMAGES} training images of Fashion-MNIST,"
    f" batches of {BATCH} drawn with replacement, no augmentation; learning rates fixed per optimizer, none tuned."
    " error_points: 100·(sparsity reached − asked for), one number per run, not sampled. mu_deviation and mu_range:"
    " standard deviation, and maximum less minimum, of the L1 coefficient over the second half of the steps, both over"
    " its mean. loss: cross-entropy over all those images after the last step (model in eval mode)."
)

Batches: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Configuration:
    """One run, by the names of its parts."""

    model: str
    optimizer: str
    schedule: str
    target: float
    steps: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What one run gave; see METHOD."""

    error_points: float
    mu: float
    mu_deviation: float
    mu_range: float
    threshold: float
    loss: float
    accuracy: float
    seconds: float


class SpikingPerceptron(nn.Module):
    """Two dense layers with LIF neurons between them, the image as a constant current; mean output over T."""

    def __init__(self) -> None:
        from spikingjelly.activation_based import functional, neuron

        super().__init__()
        self.hidden, self.head = nn.Linear(784, 64), nn.Linear(64, 10)
        self.neuron = neuron.LIFNode(tau=2.0, step_mode="m", detach_reset=True)
        self._reset = functional.reset_net

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 28, 28) → (N, 10)."""
        self._reset(self.neuron)
        current = self.hidden(images.flatten(1)).expand(TIME_STEPS, -1, -1)
        output: Tensor = self.head(self.neuron(current)).mean(0)
        return output


def perceptron() -> nn.Module:
    """784-64-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def convolutional(*, batch_norm: bool) -> nn.Module:
    """Two strided 3×3 convolutions and a dense layer."""
    layers: list[nn.Module] = []
    for before, after in ((1, 8), (8, 16)):
        norm = [nn.BatchNorm2d(after)] if batch_norm else []
        layers += [nn.Conv2d(before, after, 3, stride=2, bias=not batch_norm), *norm, nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 6 * 6, 10))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "MLP": perceptron,
    "CNN": lambda: convolutional(batch_norm=False),
    "CNN with batch-norm": lambda: convolutional(batch_norm=True),
    "SNN-MLP": SpikingPerceptron,
}
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "SGD with weight decay": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4),
    "Adam": lambda p: torch.optim.Adam(p, lr=2e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=2e-3, weight_decay=1e-2),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
}


def _warmup_cosine(optimizer: Optimizer, steps: int) -> LRScheduler:
    warmup = steps // 10
    parts: list[LRScheduler] = [
        LinearLR(optimizer, 1 / warmup, total_iters=warmup),
        CosineAnnealingLR(optimizer, steps - warmup),
    ]
    return SequentialLR(optimizer, parts, [warmup])


def _one_cycle(optimizer: Optimizer, steps: int) -> LRScheduler:
    group = optimizer.param_groups[0]
    momentum = "betas" in group or group.get("momentum", 0) > 0  # plain SGD would get one otherwise
    return OneCycleLR(optimizer, max_lr=group["lr"], total_steps=steps, cycle_momentum=momentum)


SCHEDULES: dict[str, Callable[[Optimizer, int], LRScheduler]] = {
    "constant": lambda o, _: ConstantLR(o, 1.0, 1),
    "cosine": CosineAnnealingLR,
    "warm-up and cosine": _warmup_cosine,
    "step decay": lambda o, steps: StepLR(o, -(-steps // 3), 0.1),
    "linear": lambda o, steps: LinearLR(o, 1.0, 0.01, steps),
    "exponential": lambda o, steps: ExponentialLR(o, 0.01 ** (1 / steps)),
    "one-cycle": _one_cycle,
}


def draw(count: int, seed: int, *, steps: tuple[int, int] = STEPS) -> list[Configuration]:
    """Configurations drawn at random; the same ones for the same seed."""
    generator = random.Random(seed)

    def one(index: int) -> Configuration:
        model, optimizer, schedule = (generator.choice(list(names)) for names in (MODELS, OPTIMIZERS, SCHEDULES))
        target = round(generator.uniform(*SPARSITIES), 3)
        return Configuration(model, optimizer, schedule, target, generator.randint(*steps), seed + index)

    return [one(index) for index in range(count)]


def subset() -> Batches:
    """Images (N, 1, 28, 28) in 0 … 1, and labels."""
    data = fashion_mnist().train
    return data.as_input(data.images[:IMAGES]), data.labels[:IMAGES]


def measure(configuration: Configuration, data: Batches) -> Outcome:
    """Train once, steered to the configuration's sparsity."""
    start = time.perf_counter()
    torch.manual_seed(configuration.seed)
    model = MODELS[configuration.model]()
    optimizer = OPTIMIZERS[configuration.optimizer](list(model.parameters()))
    scheduler = SCHEDULES[configuration.schedule](optimizer, configuration.steps)
    pruner = SoftThresholdPruner(optimizer, LATS.for_sparsity(configuration.target, scheduler, configuration.steps))
    coefficients = _train(model, optimizer, scheduler, pruner, configuration, data)
    reached, threshold = pruner.sparsity(), pruner.threshold
    pruner.finalize()
    half = coefficients[len(coefficients) // 2 :]
    mean = statistics.fmean(half)
    with torch.no_grad():
        output = model.eval()(data[0])
    return Outcome(
        error_points=100 * (reached - configuration.target),
        mu=half[-1],
        mu_deviation=statistics.pstdev(half) / mean if mean else 0.0,
        mu_range=(max(half) - min(half)) / mean if mean else 0.0,
        threshold=threshold,
        loss=F.cross_entropy(output, data[1]).item(),
        accuracy=(output.argmax(1) == data[1]).float().mean().item(),
        seconds=round(time.perf_counter() - start, 1),
    )


def _train(
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    pruner: SoftThresholdPruner,
    configuration: Configuration,
    data: Batches,
) -> list[float]:
    """The L1 coefficient of every step."""
    images, labels = data
    generator = torch.Generator().manual_seed(configuration.seed)
    coefficients = []
    for _ in range(configuration.steps):
        batch = torch.randint(len(labels), (BATCH,), generator=generator)
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(images[batch]), labels[batch]))
        optimizer.step()
        scheduler.step()
        coefficients.append(pruner.l1)
    return coefficients


def run(*, quick: bool = False) -> Report:
    """Measure every configuration that is drawn, and sum up."""
    chosen = draw(4, SEED, steps=(60, 90)) if quick else draw(COUNT, SEED)
    report = Report("target_sparsity", quick, {"seed": SEED, "count": len(chosen), "batch": BATCH}, METHOD)
    data, outcomes = subset(), []
    with one_thread(), progress_bar(len(chosen), "target sparsity") as bar:
        for index, configuration in enumerate(chosen):
            try:
                outcome = measure(configuration, data)
            except (ValueError, RuntimeError, FloatingPointError) as error:
                report.skipped[f"{index}: {configuration}"] = str(error)
            else:
                outcomes.append(outcome)
                report.values[str(index)] = {**asdict(configuration), **asdict(outcome)}
                report.results.append(_result(index, configuration, outcome))
            bar.update()
    _sum_up(report, outcomes)
    return report


def _result(index: int, configuration: Configuration, outcome: Outcome) -> Result:
    label = (
        f"{configuration.model}, {configuration.optimizer}, {configuration.schedule}, {configuration.steps} steps,"
        f" {100 * configuration.target:.1f} % zeros: error in points"
    )
    return Result(f"{index}/error", label, summarize([abs(outcome.error_points)]), ERROR)


def _sum_up(report: Report, outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        return
    columns: dict[str, tuple[str, list[float]]] = {
        "error": ("error in points", [abs(o.error_points) for o in outcomes]),
        "mu_deviation": ("μ in the second half: deviation / mean", [o.mu_deviation for o in outcomes]),
        "mu_range": ("μ in the second half: (max − min) / mean", [o.mu_range for o in outcomes]),
    }
    found: dict[str, Any] = {}
    for name, (label, values) in columns.items():
        report.results.append(Result(f"all/{name}", f"all configurations: {label}", summarize(values)))
        report.results.append(Result(f"worst/{name}", f"worst configuration: {label}", summarize([max(values)])))
        found[f"worst_{name}"] = max(values)
    within = sum(ERROR.met(abs(o.error_points)) for o in outcomes)
    report.values["all"] = {"runs": len(outcomes), "within_goal": within, **found}
