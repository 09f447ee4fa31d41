"""`python -m examples.xylo TASK --wheel aeon-1.6.0-py3-none-any.whl`: train, prune, fit, and ask xylosim.

Three networks of two hidden layers for each seed: one with all weights, which the chip does not hold; the same, pruned
until it does; and one with all weights, narrow enough to have no more synapses than the pruned one. Each is trained on
the chip's integers, and every integer of every test sample is compared with xylosim's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import neuroprune
from examples.xylo.networks import two_layers
from examples.xylo.tasks import TASKS, Task
from hw_targets import XyloLayer, compare_with_xylosim, emulate, from_torch, load_chip, place, remove_dead_neurons
from hw_targets import quantize as chip_integers
from hw_targets.app.cli.tables import percent, table
from hw_targets.app.versions import commit, versions
from hw_targets.errors import DoesNotFit
from hw_targets.files.atomic import new_file
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement.limits import hidden_synapses
from hw_targets.targets.xylo.cycles import activities, cycles_per_step
from hw_targets.targets.xylo.layout import specification
from neuroprune.training.data.arrays import ArraySet
from neuroprune.training.progress import progress_bar

RESULTS = Path(__file__).parent / "results"
#: Part of the weights that pruning takes; the spikes of a class times this are its score.
SPARSITY, GAIN = 0.85, 0.3
LEARNING_RATE, LARGEST_GRADIENT = 3e-3, 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all seeds of a task; results are written after each."""
    parser = argparse.ArgumentParser(prog="python -m examples.xylo", description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--wheel", type=Path, required=True, help="aeon-1.6.0-py3-none-any.whl, or its like")
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="instead of the task's own")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    # Threads that wait for each other after every small kernel take longer than one.
    torch.set_num_threads(1)
    task, runs = TASKS[options.task], list[dict[str, Any]]()
    data = task.data(options.wheel)
    for seed in range(options.first, options.first + options.seeds):
        runs += run_seed(task, data.train, data.test, seed, options.epochs or task.epochs)
        write(options.out, options.task, task, runs)
    print(as_table(runs))
    return 0


def run_seed(task: Task, train_set: ArraySet, test_set: ArraySet, seed: int, epochs: int) -> list[dict[str, Any]]:
    """The three networks of one seed."""
    found = []
    narrow = width_of((1 - SPARSITY) * synapses_of(task.hidden, train_set.classes), train_set.classes)
    for kind, hidden, sparsity in (
        ("all weights", task.hidden, 0.0),
        ("pruned", task.hidden, SPARSITY),
        ("narrow", narrow, 0.0),
    ):
        torch.manual_seed(seed)
        model = two_layers(train_set.sample_shape[1], hidden, train_set.classes)
        train(model, train_set, task.batch, epochs, seed, sparsity, title=f"{kind}, seed {seed}")
        found.append({"seed": seed, "kind": kind, "hidden": 2 * hidden, **judged(task, model, train_set, test_set)})
    return found


def synapses_of(hidden: int, classes: int) -> int:
    """Of hidden neurons: within each layer, to the second, and to the outputs."""
    return 3 * hidden * hidden + hidden * classes


def width_of(synapses: float, classes: int) -> int:
    """The widest network with no more synapses."""
    return max(n for n in range(1, 1000) if n == 1 or synapses_of(n, classes) <= synapses)


def train(
    model: nn.Sequential, data: ArraySet, batch: int, epochs: int, seed: int, sparsity: float, *, title: str
) -> None:
    """Adam on the cross-entropy of spike counts; with a sparsity, pruned on the way."""
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    steps = epochs * (len(data) // batch)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    pruner = neuroprune.prune_to(sparsity, optimizer, steps=steps) if sparsity else None
    with progress_bar(steps, title) as bar:
        for samples, labels in data.training_batches(batch, epochs, seed):
            loss = nn.functional.cross_entropy(GAIN * counted(model, data.as_input(samples)), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
            nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
            optimizer.step()
            scheduler.step()
            bar.update()
    if pruner is not None:
        pruner.finalize()


def counted(model: nn.Sequential, inputs: Tensor) -> Tensor:
    """Output spikes (N, classes) over all steps (T, N, channels), from cleared states."""
    for layer in model:
        assert isinstance(layer, XyloLayer)
        layer.reset()
    result: Tensor = model(inputs).sum(0)
    return result


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


def write(folder: Path, name: str, task: Task, runs: list[dict[str, Any]]) -> None:
    """All runs so far, with where and from what they come."""
    folder.mkdir(parents=True, exist_ok=True)
    report = {"task": task.name, "chip": task.chip, "commit": commit(), "versions": versions(), "runs": runs}
    with new_file(folder / f"{name}.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")


def as_table(runs: list[dict[str, Any]]) -> str:
    """Means over seeds."""
    rows = []
    for kind in dict.fromkeys(run["kind"] for run in runs):
        mine = [run for run in runs if run["kind"] == kind]

        def mean(key: str, mine: list[dict[str, Any]] = mine) -> float:
            return float(sum(run[key] for run in mine)) / len(mine)

        fits = sum(not run["does_not_fit"] for run in mine)
        rows.append(
            [kind, percent(mean("accuracy")), percent(mean("accuracy_on_chip")), f"{fits} of {len(mine)}"]
            + [f"{mean(key):,.0f}" for key in ("synapses_of_hidden_neurons", "cycles_per_step")]
            + [str(sum(run["integers_that_differ"] for run in mine))]
        )
    head = ["", "accuracy", "on the chip", "fit", "synapses", "cycles a step", "integers unlike xylosim's"]
    return table(rows, head)


if __name__ == "__main__":
    sys.exit(main())
