"""One run of the study of costs: a spiking network trained and pruned in some way, and what it then costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from examples.benchmarks.frontier.methods.base import Handle, Run, sparsity_of
from examples.benchmarks.frontier.methods.gmp import GMP
from hw_targets import from_torch, load_chip, to_chip
from hw_targets.app.stages import map_network
from neuroprune import (
    LATS,
    NeuronCosts,
    ProductCosts,
    SoftThresholdPruner,
    SynapticCosts,
    SynOpsLoss,
    count_synops,
    prune_to,
)
from neuroprune.frameworks.spikingjelly import functional, layer
from neuroprune.frameworks.spikingjelly_equations import neuron
from neuroprune.models.sew_resnet import SmallSEWResNet, surrogate
from neuroprune.pruning.costs import Costs
from neuroprune.training.data.base import Split
from neuroprune.training.data.fashion_mnist import fashion_mnist
from neuroprune.training.data.images import ImageSet
from neuroprune.training.hyperparameters import Hyperparameters

BATCH, IMAGES = 64, 20_000
#: Validation images whose synaptic operations are counted, and those that the chip is given.
COUNTED, ON_CHIP, CHIP = 256, 64, "loihi1"
#: Of log(synaptic operations) in the loss, and the share of its cost that every weight has (both: see `costs.METHOD`).
RATE, BASE = 0.05, 0.1


class ConvSNN(nn.Sequential):
    """Two 5×5 convolutions of stride 2 with batch-norm and IF neurons, then a readout. Takes (T, N, 1, 28, 28)."""

    def __init__(self, widths: tuple[int, ...] = (8, 16)) -> None:
        modules: list[nn.Module] = []
        for before, width in zip((1, *widths), widths, strict=False):
            spiking = neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True)
            modules += [layer.Conv2d(before, width, 5, 2, 2, bias=False), layer.BatchNorm2d(width), spiking]
        super().__init__(*modules, layer.Flatten(), layer.Linear(widths[-1] * 49, 10))
        functional.set_step_mode(self, "m")


@dataclass(frozen=True)
class Task:
    """A network, its time steps and its budget of optimizer steps."""

    model: str
    widths: tuple[int, ...]
    time_steps: int
    steps: int
    hyper: Hyperparameters


BUILDERS: dict[str, Callable[[tuple[int, ...]], nn.Module]] = {
    "conv": ConvSNN,
    "sew": lambda widths: SmallSEWResNet(widths, stem_pool=True),
}
#: The networks by name; the second is the frontier's, with its learning rate.
TASKS = {
    "conv": Task("conv", (8, 16), 4, 300, Hyperparameters(lr=0.1, weight_decay=5e-5)),
    "sew": Task("sew", (8, 16, 96), 2, 312, Hyperparameters(lr=0.3)),
}


@dataclass(frozen=True)
class Method:
    """What prunes, with which costs, and how much the rate of spikes counts in the loss."""

    name: str
    pruner: str = "prune_to"
    costs: bool = False
    neurons: bool = False
    rate: float = 0.0

    def costs_of(self, model: nn.Module) -> tuple[Costs, ...]:
        """What weights cost, measured of this model."""
        synaptic = (SynapticCosts(model, base=BASE),) if self.costs else ()
        return (*synaptic, NeuronCosts(p for p in model.parameters() if p.dim() > 1)) if self.neurons else synaptic

    def attach(self, run: Run, costs: Costs | None) -> SoftThresholdPruner | Handle | None:
        """Hook it to the optimizer; None for a dense network."""
        if self.pruner == "gmp":
            return GMP().attach(run)
        if self.pruner == "LATS":
            return SoftThresholdPruner(run.optimizer, LATS.for_sparsity(run.target, run.scheduler, run.steps))
        return prune_to(run.target, run.optimizer, steps=run.steps, costs=costs) if self.pruner == "prune_to" else None


#: In the order of tables.
METHODS = {
    method.name: method
    for method in (
        Method("dense", pruner="none"),
        Method("LATS", pruner="LATS"),
        Method("gmp", pruner="gmp"),
        Method("prune_to"),
        Method("prune_to, costs", costs=True),
        Method("prune_to, neurons", neurons=True),
        Method("prune_to, rate", rate=RATE),
        Method("prune_to, all", costs=True, neurons=True, rate=RATE),
    )
}


@dataclass(frozen=True)
class Unit:
    """A run to do."""

    model: str
    method: str
    target: float
    seed: int


def settings(unit: Unit) -> dict[str, Any]:
    """Everything but target and seed that decides a run, as text: a changed setting makes it another run."""
    task = TASKS[unit.model]
    return {
        "method": repr(METHODS[unit.method]),
        "task": repr(task),
        "constants": [BATCH, IMAGES, COUNTED, ON_CHIP, CHIP, RATE, BASE],
    }


def run_unit(unit: Unit) -> dict[str, Any]:
    """Train, and measure; the test images are looked at once, at the end."""
    torch.set_num_threads(1)
    begun = time.process_time()
    data = _data()
    model = trained(unit, data.train)
    found = {
        "validation": accuracy(unit, model, data.validation),
        "test": accuracy(unit, model, data.test),
        **costs_of(model, TASKS[unit.model].time_steps, data.validation),
    }
    return {**asdict(unit), **found, "cpu_seconds": round(time.process_time() - begun, 2)}


def trained(unit: Unit, data: ImageSet) -> nn.Module:
    """The network of a seed, pruned while it trains, in evaluation mode."""
    task, method = TASKS[unit.model], METHODS[unit.method]
    torch.manual_seed(unit.seed)
    model = BUILDERS[task.model](task.widths)
    optimizer = task.hyper.optimizer(model)
    scheduler = task.hyper.scheduler(optimizer, task.steps)
    run = Run(
        model, optimizer, scheduler, task.steps, unit.target, data, lambda net, x: net(x), task.hyper, task.time_steps
    )
    costs = method.costs_of(model)
    pruner = method.attach(run, ProductCosts(*costs) if costs else None)
    synops = SynOpsLoss(model) if method.rate else None
    _loop(run, synops, method.rate, unit.seed)
    if isinstance(pruner, SoftThresholdPruner):
        pruner.finalize()
    elif pruner is not None:
        pruner.finish()
    for watching in (*costs, synops):
        if isinstance(watching, (SynapticCosts, SynOpsLoss)):
            watching.close()
    return model.eval()


def _loop(run: Run, synops: SynOpsLoss | None, rate: float, seed: int) -> None:
    optimizer: Optimizer = run.optimizer
    scheduler: LRScheduler = run.scheduler
    generator = torch.Generator().manual_seed(seed)
    for _ in range(run.steps):
        chosen = torch.randint(len(run.data), (BATCH,), generator=generator)
        loss = F.cross_entropy(scores(run.model, run.data, chosen, run.time_steps), run.data.labels[chosen])
        if synops is not None:
            loss = loss + rate * synops(BATCH).log1p()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        scheduler.step()


def scores(model: nn.Module, data: ImageSet, chosen: Tensor | slice, time_steps: int) -> Tensor:
    """Class scores (N, classes), the mean over the steps, each of which shows the image."""
    functional.reset_net(model)
    result: Tensor = model(shown(data, chosen, time_steps)).mean(0)
    return result


def shown(data: ImageSet, chosen: Tensor | slice, time_steps: int) -> Tensor:
    """Images (T, N, C, H, W) of values 0 … 1."""
    images = data.as_input(data.images[chosen])
    return images.expand(time_steps, *images.shape)


@torch.no_grad()
def accuracy(unit: Unit, model: nn.Module, data: ImageSet) -> float:
    """In per cent."""
    right = 0
    for start in range(0, len(data), 500):
        part = slice(start, start + 500)
        found = scores(model, data, part, TASKS[unit.model].time_steps).argmax(1)
        right += int((found == data.labels[part]).sum())
    return 100 * right / len(data)


@torch.no_grad()
def costs_of(model: nn.Module, time_steps: int, data: ImageSet) -> dict[str, float]:
    """Zeros (%), and per image synaptic operations, energy (J) and latency (s); cores, and neurons on them."""
    functional.reset_net(model)
    weights = [p for p in model.parameters() if p.dim() > 1]
    found = {
        "zeros": 100 * sparsity_of(weights),
        "SynOps": count_synops(model, shown(data, slice(COUNTED), time_steps)).total / COUNTED,
    }
    functional.reset_net(model)
    x, chip = shown(data, slice(ON_CHIP), time_steps), load_chip(CHIP)
    network = to_chip(from_torch(model, x), chip, x)
    mapped = map_network(network, (chip,), x)
    placement, estimated = mapped.placements[CHIP], mapped.estimates[CHIP]
    if estimated.energy is None or estimated.time is None:
        raise ValueError(f"costs: energy and time of {CHIP} are not published; choose another chip")
    return {
        **found,
        "energy": estimated.energy,
        "cores": placement.core_count,
        "latency": estimated.time,
        "neurons": sum(cores.size for cores in placement.cores.values()),
    }


@lru_cache(maxsize=1)
def _data() -> Split[ImageSet]:
    split = fashion_mnist()
    return Split(split.train.subset(0, IMAGES), split.validation, split.test)
