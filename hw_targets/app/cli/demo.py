"""`neuroprune demo`: the whole chain on Fashion-MNIST, from training to Lava's verdict."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hw_targets.app.cli.console import Console
from hw_targets.app.cli.tables import percent, quantity, ratio, table
from hw_targets.app.report import write_report
from hw_targets.app.run.unfinished import UnfinishedRun, check_place
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.stages import (
    Trained,
    calibration_images,
    emulated_accuracy,
    first_samples,
    lava_images,
    layer_table,
    load_data,
    map_network,
    measure_synops,
    read_network,
    to_chip,
    train_dense_and_pruned,
)
from hw_targets.app.summary import fan_ins, hardware, rasters
from hw_targets.app.versions import commit, versions
from hw_targets.emulation.emulate import emulate
from hw_targets.frontends.nir.writer import write_nir
from hw_targets.ir.network import ChipNetwork
from hw_targets.passes.dead_neurons import remove_dead_neurons
from hw_targets.quantization.quantize import dequantize, quantize
from hw_targets.targets.loihi.lava.check import LavaUnavailable, SpikeComparison, compare_with_lava
from hw_targets.targets.loihi.netx.writer import export_netx
from hw_targets.targets.registry import load_chip
from neuroprune.training.data.base import DataSet, Split
from neuroprune.training.loop import Hyperparameters, accuracy, predictor
from neuroprune.training.progress import progress_bar
from neuroprune.training.recipe import Recipe, recipe_text

#: Chips the demo maps to; energies are known for the first.
CHIPS = ("loihi1", "loihi2")
#: Test images used where a number is an average per image, not an accuracy.
MEASURED_IMAGES = 200


def demo_recipe(size: str) -> Recipe:
    """The demo's run: quick, full (a wider network, more time steps), or small enough for continuous integration.

    Network, epochs and sparsity of the quick one were chosen on validation images.
    """
    full = Recipe(
        name="SEW ResNet on Fashion-MNIST",
        factory="neuroprune.models.sew_resnet:SmallSEWResNet",
        arguments={"widths": [8, 32, 128], "neuron_type": "IF"},
        training=Hyperparameters(epochs=2, batch_size=128, lr=0.5, weight_decay=0.0),
        schedule_arguments={"l1": 1.8e-3},
    )
    if size == "full":
        return full
    if size == "quick":
        return dataclasses.replace(
            full,
            arguments={"widths": [8, 16, 96], "neuron_type": "IF"},
            time_steps=2,
            schedule="prune_to",
            schedule_arguments={"sparsity": 0.92},
        )
    return dataclasses.replace(
        full,
        arguments={"widths": [8, 16], "neuron_type": "IF"},
        train_limit=6400,
        test_limit=500,
        training=dataclasses.replace(full.training, epochs=1),
        schedule_arguments={"l1": 1e-2},  # so short a run needs more of it to prune at all
    )


@dataclass
class _Clock:
    """Seconds per stage, announced as they begin."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        self.console.say(f"· {title}")
        start, cpu = time.perf_counter(), _cpu_seconds()
        yield
        self.seconds[title] = round(time.perf_counter() - start, 2)
        self.cpu_seconds[title] = round(_cpu_seconds() - cpu, 2)


def _cpu_seconds() -> float:
    """What this process and those that it began and that have ended have computed, on all cores together."""
    return sum(os.times()[:4])


def run_demo(out: Path, size: str, *, overwrite: bool = False, console: Console) -> None:
    """Run every stage, write the run folder, print the table."""
    check_place(out, overwrite=overwrite)
    recipe, clock = demo_recipe(size), _Clock(console)
    with clock.stage("load Fashion-MNIST"):
        data = load_data(recipe)
    run = UnfinishedRun.begin(out, recipe_text(recipe), {}, overwrite=overwrite)
    try:
        with console.progress():
            _run_stages(recipe, data, clock, RunFolder(run.path, overwrite=True), size)
    except BaseException:  # nobody goes on with half a demo
        run.discard()
        raise
    run.finish()
    summary = RunFolder.open(out).summary()
    shown = f"{out / 'report.html'} shows it in pictures; the other files are beside it."
    console.result({"out": out, **summary}, f"\n{result_table(summary)}\n\n{shown}")


def _run_stages(recipe: Recipe, data: Split[DataSet], clock: _Clock, folder: RunFolder, size: str) -> None:
    """From training to the report, all in one folder."""
    with folder.metrics() as record, clock.stage(f"train dense and, on the same budget, pruned ({recipe.schedule})"):
        dense, pruned = train_dense_and_pruned(recipe, data.train, record("dense"), record("pruned"))
    folder.save_model(dense.model, "dense")
    folder.save_model(pruned.model)
    with clock.stage("count synaptic operations"):
        summary = _software_summary(recipe, data, dense, pruned)
    with clock.stage("to chip integers, files, cores"):
        chips = tuple(load_chip(name) for name in CHIPS)
        network = read_network(pruned.model, data.test, recipe.time_steps)
        seen = calibration_images(data)
        dense_network = read_network(dense.model, data.test, recipe.time_steps)
        whole, dense_whole = (quantize(n, chips[0], seen) for n in (network, dense_network))
        chip_network, dense_chip_network = remove_dead_neurons(whole), remove_dead_neurons(dense_whole)
        netx_network = to_chip(network, chips[0], seen, for_format="netx")
        export_netx(netx_network, folder.path / "model.net", overwrite=folder.overwrite)
        write_nir(network, folder.path / "model.nir", overwrite=folder.overwrite)
        images = first_samples(data.test, MEASURED_IMAGES)
        mapped = map_network(chip_network, chips, images)
        mapped_dense = map_network(dense_chip_network, chips, images)
        mapped.placements[CHIPS[0]].save(folder.path / "placement.npz", overwrite=folder.overwrite)
        summary |= hardware({"dense": mapped_dense, "pruned": mapped}, chips)
        summary["fan_in"] = fan_ins(whole, chips[0])
        shown = {"dense": emulate(dense_whole, images[:1]), "pruned": emulate(whole, images[:1])}
        summary["raster"] = rasters(shown)
    with clock.stage("classify the test set with chip integers"):
        summary["quantized_accuracy"] = emulated_accuracy(dequantize(chip_network), data.test, title="quantized")
        summary["chip_accuracy"] = emulated_accuracy(chip_network, data.test, title="chip")
        summary["netx_accuracy"] = emulated_accuracy(netx_network, data.test, title="netx")
    with clock.stage("compare every spike with Lava"):
        summary |= _lava_summary(netx_network, folder, data, samples=2 if size == "small" else 5)
    folder.add_to_summary(
        {
            **summary,
            "seconds": clock.seconds,
            "cpu_seconds": clock.cpu_seconds,
            "versions": versions(),
            "commit": commit(),
        }
    )
    write_report(folder.path, overwrite=folder.overwrite)


def _software_summary(recipe: Recipe, data: Split[DataSet], dense: Trained, pruned: Trained) -> dict[str, Any]:
    predict = predictor(dense.model, recipe.time_steps)
    images = data.test.subset(0, MEASURED_IMAGES)
    with_zeros = measure_synops(dense.model, images, recipe.time_steps)
    without = measure_synops(pruned.model, images, recipe.time_steps)
    samples = len(images)
    layers = layer_table(pruned.model, with_zeros, without, samples)
    return {
        "name": recipe.name,
        "dense_accuracy": accuracy(dense.model, data.test, predict),
        "pruned_accuracy": accuracy(pruned.model, data.test, predictor(pruned.model, recipe.time_steps)),
        "sparsity": pruned.sparsity,
        "weights": sum(layer["weights"] for layer in layers),
        "layers": layers,
        "synops_dense": with_zeros.total / samples,
        "synops_pruned": without.total / samples,
    }


def _lava_summary(network: ChipNetwork, folder: RunFolder, data: Split[DataSet], samples: int) -> dict[str, Any]:
    images = lava_images(data.test, samples)
    note, result = None, None
    try:
        with progress_bar(None, "Lava") as bar:
            result = compare_with_lava(network, folder.path / "model.net", images, waiting=bar.update)
    except LavaUnavailable as error:
        note = str(error)
    verdict = result or SpikeComparison(0, 0, 0, 0, 0)
    return {
        "lava_samples": verdict.samples if result else None,
        "lava_spikes_compared": verdict.compared if result else None,
        "lava_spike_differences": verdict.differences if result else None,
        "lava_readout_differences": verdict.readout_differences if result else None,
        "lava_note": note,
    }


def result_table(summary: dict[str, Any]) -> str:
    """The demo's one table."""
    weights, kept = summary["weights"], summary["weights"] * (1 - summary["sparsity"])
    rows = [
        ["accuracy, float", percent(summary["dense_accuracy"]), percent(summary["pruned_accuracy"]), ""],
        ["accuracy, quantized weights", "", percent(summary["quantized_accuracy"]), ""],
        ["accuracy, chip integers", "", percent(summary["chip_accuracy"]), ""],
        ["accuracy, netx file's integers", "", percent(summary.get("netx_accuracy")), ""],
        ["weights", quantity(weights), quantity(kept), ratio(weights, kept)],
        ["sparsity", percent(0.0), percent(summary["sparsity"]), ""],
        _compared("synaptic operations / image", summary["synops_dense"], summary["synops_pruned"]),
        _compared(
            f"energy / image, {summary['energy_chip']}", summary["energy_dense_j"], summary["energy_pruned_j"], "J"
        ),
    ]
    rows += [_compared(f"cores, {chip}", c["dense"], c["pruned"]) for chip, c in summary["cores"].items()]
    lines = [table(rows, ["", "dense", "pruned", "ratio"]), ""]
    by_pruning, by_chip = (
        100 * (summary[f"{after}_accuracy"] - summary[f"{before}_accuracy"])
        for before, after in (("dense", "pruned"), ("pruned", "chip"))
    )
    lines += [f"points of test accuracy: {by_pruning:+.2f} by pruning, {by_chip:+.2f} by the chip's integers", ""]
    lines.append("sparsity per layer:")
    lines.append(
        table(
            [[r["name"], quantity(r["weights"]), percent(r["zeros"] / r["weights"])] for r in summary["layers"]],
            ["layer", "weights", "zero"],
        )
    )
    if summary["lava_samples"] is None:
        lines += ["", f"Lava: not compared. {summary['lava_note']}"]
    else:
        lines += [
            "",
            f"Lava: {summary['lava_spike_differences']} differences in {summary['lava_spikes_compared']} spikes of all"
            f" layers, {summary['lava_samples']} images; {summary['lava_readout_differences']} in the readout.",
        ]
    return "\n".join(lines)


def _compared(title: str, dense: float | None, pruned: float | None, unit: str = "") -> list[str]:
    return [title, quantity(dense, unit), quantity(pruned, unit), ratio(dense, pruned)]
