"""Training and judging of one network: on the chip's integers, and then by the chip's own simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import neuroprune
from examples.xylo.networks import two_layers
from examples.xylo.tasks import Task
from hw_targets import XyloLayer, compare_with_xylosim, emulate, from_torch, load_chip, place, remove_dead_neurons
from hw_targets import quantize as chip_integers
from hw_targets.errors import DoesNotFit
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement.limits import hidden_synapses
from hw_targets.targets.xylo.cycles import activities, cycles_per_step
from hw_targets.targets.xylo.layout import specification
from neuroprune.training.data.arrays import ArraySet
from neuroprune.training.progress import progress_bar

#: Part of the weights that pruning takes.
SPARSITY = 0.85
LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Settings:
    """What is chosen on held-out training samples: Adam's first learning rate, and what a spike adds to a score."""

    rate: float
    gain: float


@dataclass(frozen=True)
class Contender:
    """A network of two hidden layers of `hidden` neurons each, pruned or not."""

    kind: str
    hidden: int
    sparsity: float


def contenders(task: Task, classes: int) -> tuple[Contender, ...]:
    """All weights, the same pruned, and one with all weights and no more synapses than the pruned one."""
    narrow = width_of((1 - SPARSITY) * synapses_of(task.hidden, classes), classes)
    return (
        Contender("all weights", task.hidden, 0.0),
        Contender("pruned", task.hidden, SPARSITY),
        Contender("narrow", narrow, 0.0),
    )


def synapses_of(hidden: int, classes: int) -> int:
    """Of hidden neurons: within each layer, to the second, and to the outputs."""
    return 3 * hidden * hidden + hidden * classes


def width_of(synapses: float, classes: int) -> int:
    """The widest network with no more synapses."""
    return max(n for n in range(1, 1000) if n == 1 or synapses_of(n, classes) <= synapses)


def trained(
    task: Task, data: ArraySet, contender: Contender, settings: Settings, seed: int, steps: int
) -> nn.Sequential:
    """Adam on the cross-entropy of spike counts, its rate falling as a cosine; pruned under the chip's caps."""
    torch.manual_seed(seed)
    model = two_layers(data.sample_shape[1], contender.hidden, data.classes)
    optimizer = torch.optim.Adam(model.parameters(), settings.rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    pruner = None
    if contender.sparsity:
        pruner = neuroprune.prune_to(contender.sparsity, optimizer, steps=steps, caps=load_chip(task.chip))
    epochs = -(-steps // (len(data) // task.batch))
    batches = data.training_batches(task.batch, epochs, seed)
    with progress_bar(steps, f"{contender.kind}, {settings}, seed {seed}") as bar:
        for _, (samples, labels) in zip(range(steps), batches, strict=False):
            loss = nn.functional.cross_entropy(settings.gain * counted(model, data.as_input(samples)), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
            nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
            optimizer.step()
            scheduler.step()
            bar.update()
    if pruner is not None:
        pruner.finalize()
    return model


def counted(model: nn.Sequential, inputs: Tensor) -> Tensor:
    """Output spikes (N, classes) over all steps (T, N, channels), from cleared states."""
    for layer in model:
        assert isinstance(layer, XyloLayer)
        layer.reset()
    result: Tensor = model(inputs).sum(0)
    return result


@torch.no_grad()
def validated(model: nn.Sequential, data: ArraySet, gain: float) -> dict[str, float]:
    """Accuracy and loss on held-out samples."""
    scores = gain * counted(model, data.as_input(data.samples))
    return {
        "accuracy": share(scores.argmax(1), data.labels),
        "loss": float(nn.functional.cross_entropy(scores, data.labels)),
    }


def judged(task: Task, model: nn.Sequential, train_set: ArraySet, test_set: ArraySet) -> dict[str, Any]:
    """What the network reaches on the test set, whether it fits, what a step costs, and what xylosim says."""
    chip, inputs = load_chip(task.chip), test_set.as_input(test_set.samples)
    network = chip_integers(from_torch(model, train_set.as_input(train_set.pixels(2))), chip)
    alive = remove_dead_neurons(network)
    with torch.no_grad():
        spikes = counted(model, inputs)
    activity, shown = emulate(alive, inputs), inputs.numpy().astype(int)
    verdict = compare_with_xylosim(alive, shown)
    cycles = cycles_per_step(specification(alive), activities(alive, activity), projections_alone=True)
    return {
        "accuracy": share(spikes.argmax(1), test_set.labels),
        "accuracy_on_chip": share(torch.from_numpy(activity.output.argmax(1)), test_set.labels),
        "counts_that_differ": int((torch.from_numpy(activity.output) != spikes).sum()),
        "synapses_of_hidden_neurons": hidden_synapses(alive),
        "hidden_neurons_alive": sum(p.size for p in alive.populations[1:-1]),
        "does_not_fit": unfit(alive, task),
        "cycles_per_step": round(cycles.total),
        "cycles_recurrent": round(cycles.recurrent),
        "held_at_16_bits": sum(activity.overflows.values()),
        "test_samples": verdict.samples,
        "integers_compared": verdict.compared,
        "spikes": verdict.spikes,
        "integers_that_differ": verdict.differences,
    }


def share(found: Tensor, labels: Tensor) -> float:
    """Fraction of classes that are right."""
    return float((found == labels).float().mean())


def unfit(network: ChipNetwork, task: Task) -> str:
    """Why the chip does not hold a network; empty where it does."""
    try:
        place(network, load_chip(task.chip))
    except DoesNotFit as error:
        return str(error)
    return ""
