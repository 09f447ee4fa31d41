"""What the chip's integers cost in accuracy: the demo's network on Fashion-MNIST, pruned to 90 and 98 % zeros.

Each network is trained once per seed and run three ways on the same images: the float model, its integers rounded to
the nearest, and its integers calibrated on training images. The emulator stands for the chip; it spikes as Lava does.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from examples.benchmarks.common import Goal, Report, Result, summarize
from hw_targets import load_chip
from hw_targets.app.cli.demo import demo_recipe
from hw_targets.app.stages import load_data, to_network, train_recipe
from hw_targets.emulation.emulate import emulate
from hw_targets.errors import QuantizationError
from hw_targets.ir.network import ChipNetwork
from hw_targets.quantization.quantize import quantize
from neuroprune.training.data.base import DataSet, Split
from neuroprune.training.loop import predictor
from neuroprune.training.progress import progress_bar
from neuroprune.training.recipe import Recipe

CHIP = "loihi1"
SPARSITIES, SEEDS = (0.9, 0.98), (0, 1, 2)
#: Training images that scales and roundings are calibrated on.
CALIBRATION_IMAGES = 300
#: Of a quick run: sparsities that its 50 steps reach, and images of each set.
QUICK_SPARSITIES, QUICK_IMAGES = (0.6, 0.8), 200
#: Points (1/100) of accuracy that the integers may cost.
LOSS = Goal(0.3)
BATCH = 250
METHOD = (
    f"The demo's network, budget and data; LATS steered to each sparsity, one training per seed. {CHIP}'s integers:"
    " nearest (`quantize` without data) and calibrated, on"
    f" {CALIBRATION_IMAGES} training images without their labels. loss: 100·(accuracy of the float model − accuracy in"
    " integers), one number per seed; negative where the integers do better. changed: per cent of images whose class"
    " differs from the float model's; it shows the disturbance without the luck of its signs. Nothing was chosen by the"
    " test set, which is read once per network."
)
KINDS, SETS = ("nearest", "calibrated"), ("validation", "test")


@dataclass(frozen=True)
class Run:
    """One network to train."""

    sparsity: float
    seed: int
    quick: bool

    @property
    def recipe(self) -> Recipe:
        """The demo's, steered to the sparsity."""
        demo = demo_recipe("small" if self.quick else "full")
        training = replace(demo.training, seed=self.seed)
        return replace(demo, training=training, schedule_arguments={"target_sparsity": self.sparsity})


@dataclass(frozen=True)
class Outcome:
    """What one network gave: float and chip accuracy, and images whose class changed, by kind and set; fractions."""

    sparsity: float
    seed: int
    reached: float
    accuracy: dict[str, float]
    chip: dict[str, dict[str, float]]
    changed: dict[str, dict[str, float]]
    seconds: dict[str, float]

    def loss(self, kind: str, name: str) -> float:
        """Points of accuracy that the integers cost on a set."""
        return 100 * (self.accuracy[name] - self.chip[kind][name])


def measure(run: Run) -> Outcome:
    """Train one network, quantize it both ways, and classify both sets."""
    torch.set_num_threads(1)
    recipe, seconds = run.recipe, {}
    data, start = load_data(recipe), time.perf_counter()
    trained = train_recipe(recipe, data.train, pruned=True)
    seconds["training"] = time.perf_counter() - start
    network, chip = to_network(trained.model, data.test.pixels(2), recipe.time_steps), load_chip(CHIP)
    seen, _ = next(data.train.training_batches(CALIBRATION_IMAGES, 1, 0))
    chips = {}
    for kind, calibration in zip(KINDS, (None, seen), strict=True):
        start = time.perf_counter()
        chips[kind] = quantize(network, chip, calibration)
        seconds[kind] = time.perf_counter() - start
    predict = predictor(trained.model, recipe.time_steps)
    accuracy: dict[str, float] = {}
    exact: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    changed: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    for name, images in _sets(data, quick=run.quick):
        labels = np.concatenate([label.numpy() for _, label in images.batches(BATCH)])
        with torch.no_grad():
            scores = [predict(trained.model, images.as_input(batch)) for batch, _ in images.batches(BATCH)]
        real = torch.cat(scores).argmax(1).numpy()
        accuracy[name] = float((real == labels).mean())
        for kind, integers in chips.items():
            found = _classes(integers, images)
            exact[kind][name] = float((found == labels).mean())
            changed[kind][name] = float((found != real).mean())
    rounded = {key: round(value, 1) for key, value in seconds.items()}
    return Outcome(run.sparsity, run.seed, trained.sparsity, accuracy, exact, changed, rounded)


def _sets(data: Split[DataSet], *, quick: bool) -> Iterator[tuple[str, DataSet]]:
    for name, images in zip(SETS, (data.validation, data.test), strict=True):
        yield name, images.subset(0, QUICK_IMAGES) if quick else images


def _classes(network: ChipNetwork, images: DataSet) -> npt.NDArray[np.int64]:
    return np.concatenate([emulate(network, batch).output.argmax(1) for batch, _ in images.batches(BATCH)])


def run(*, quick: bool = False) -> Report:
    """Measure every sparsity and seed, as many side by side as there are cores, each on one thread."""
    sparsities, seeds = (QUICK_SPARSITIES, SEEDS[:1]) if quick else (SPARSITIES, SEEDS)
    runs = [Run(sparsity, seed, quick) for sparsity in sparsities for seed in seeds]
    recipe = runs[0].recipe
    parameters = {
        "chip": CHIP,
        "sparsities": list(sparsities),
        "seeds": list(seeds),
        "calibration_images": CALIBRATION_IMAGES,
        "model": dict(recipe.arguments),
        "training": asdict(recipe.training),
    }
    report = Report("chip_accuracy", quick, parameters, METHOD)
    sum_up(report, list(_measured(runs, report)))
    return report


def _measured(runs: Sequence[Run], report: Report) -> Iterator[Outcome]:
    """Outcomes in the order of the runs; a network that the chip's integers cannot hold is named in the report."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool, progress_bar(len(runs), "networks") as bar:
        for one, future in [(one, pool.submit(measure, one)) for one in runs]:
            try:
                yield future.result()
            except QuantizationError as error:
                report.skipped[f"{one.sparsity:g}/seed {one.seed}"] = str(error)
            bar.update()


def sum_up(report: Report, outcomes: Sequence[Outcome]) -> None:
    """Every network as values, and the losses of each sparsity over its seeds as results."""
    for outcome in outcomes:
        report.values[f"{outcome.sparsity:g}/seed {outcome.seed}"] = asdict(outcome)
    for sparsity in dict.fromkeys(outcome.sparsity for outcome in outcomes):
        these = [outcome for outcome in outcomes if outcome.sparsity == sparsity]
        for name in SETS:
            report.values[f"{sparsity:g}/float/{name}"] = _spread([100 * o.accuracy[name] for o in these])
            for kind in KINDS:
                losses, where = [o.loss(kind, name) for o in these], f"{sparsity:g}/{kind}/{name}"
                report.values[where] = {
                    "accuracy": _spread([100 * o.chip[kind][name] for o in these]),
                    "loss": _spread(losses),
                    "changed": _spread([100 * o.changed[kind][name] for o in these]),
                }
                label = f"{100 * sparsity:g} % zeros, {kind} integers, {name} images: accuracy lost, in points"
                judged = kind == "calibrated" and name == "test"
                goal = LOSS if judged else None
                report.results.append(Result(where, label, summarize(losses), goal, headline=judged))


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation (of a sample; None of a single value)."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": deviation, "values": list(values)}
