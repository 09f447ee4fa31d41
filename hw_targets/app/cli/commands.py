"""The stages as subcommands, each on a run folder that `neuroprune train` made."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw_targets.app.cli.netx_files import is_netx, map_file, verify_file
from hw_targets.app.cli.tables import percent, quantity, table
from hw_targets.app.fine_tuning import check_fine_tuning, fine_tune
from hw_targets.app.report import write_report
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.stages import (
    available_device,
    calibration_images,
    chip_images,
    emulated_accuracy,
    lava_images,
    load_data,
    map_network,
    measure_synops,
    to_chip,
    to_network,
    train_recipe,
)
from hw_targets.chips.chip import Chip
from hw_targets.emulation.emulate import emulate
from hw_targets.errors import DoesNotFit
from hw_targets.files.atomic import check_free
from hw_targets.frontends.nir.writer import write_nir
from hw_targets.ir.network import ChipNetwork, Network
from hw_targets.placement import place
from hw_targets.placement.fit import check_fit, cores_needed
from hw_targets.placement.limits import check_system
from hw_targets.targets.loihi.lava.check import compare_with_lava
from hw_targets.targets.loihi.netx.relays import insert_relays
from hw_targets.targets.loihi.netx.writer import export_netx
from hw_targets.targets.loihi.sanafe.writer import export_sanafe
from hw_targets.targets.registry import available_chips, load_chip
from neuroprune.training.loop import accuracy, predictor, progress_bar
from neuroprune.training.recipe import load_recipe


def add_parsers(subparsers: Any) -> None:
    """Register the subcommands."""
    train = _parser(subparsers, "train", _train, "train and prune a recipe's model")
    train.add_argument("recipe", type=Path, help="recipe file (.toml)")
    train.add_argument("--out", type=Path, required=True, help="new run folder")
    train.add_argument("--dense", action="store_true", help="do not prune")
    train.add_argument("--device", default="cpu", help="where to train, such as cuda (default: %(default)s)")
    _set_argument(train)
    train.add_argument("--overwrite", action="store_true", help="replace an earlier run in the same folder")

    synops = _parser(subparsers, "synops", _synops, "count synaptic operations exactly")
    _run_argument(synops)
    synops.add_argument(
        "--images", type=_positive, default=200, help="test images to average over (default: %(default)s)"
    )

    fit = _parser(subparsers, "fit", _fit, "say, before training, which layers exceed a chip's limits")
    fit.add_argument("recipe", type=Path, help="recipe file (.toml) or run folder")
    _set_argument(fit)
    _chip_argument(fit)

    mapping = _parser(subparsers, "map", _map, "lay a run's network on a chip's cores")
    _run_argument(mapping, "run folder, or netx file (.net)")
    _chip_argument(mapping)
    mapping.add_argument(
        "--images", type=_positive, default=100, help="test images for the energy (default: %(default)s)"
    )
    mapping.add_argument("--out", type=Path, help="placement file (default: placement.npz in the run folder)")
    mapping.add_argument("--overwrite", action="store_true", help="replace an existing file")

    export = _parser(subparsers, "export", _export, "write a run's network for other tools")
    _run_argument(export)
    _chip_argument(export)
    formats = ("netx", "nir", "sanafe")
    export.add_argument("--format", choices=formats, default="netx", help="default: %(default)s (Lava, Loihi)")
    names = "model.net, model.nir or the folder sanafe"
    export.add_argument("--out", type=Path, help=f"file, or folder for sanafe (default: {names} in the run folder)")
    export.add_argument("--overwrite", action="store_true", help="replace an existing file")

    emulation = _parser(subparsers, "emulate", _emulate, "classify the test set in the chip's integers")
    _run_argument(emulation)
    _chip_argument(emulation)

    verify = _parser(subparsers, "verify", _verify, "compare every spike with Lava's own simulator (Lava installed)")
    _run_argument(verify, "run folder, or netx file (.net), which gets random inputs")
    _chip_argument(verify)
    verify.add_argument("--images", type=_positive, default=3, help="test images (default: %(default)s)")

    report = _parser(subparsers, "report", _report, "write a run's report.html from its summary and metrics")
    _run_argument(report)
    report.add_argument("--overwrite", action="store_true", help="replace an existing report")

    chips = _parser(subparsers, "chips", _chips, "list the chips, or one chip's numbers with their sources")
    chips.add_argument("name", nargs="?", help="chip name or chip file (.toml)")


def _parser(subparsers: Any, name: str, run: Any, title: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=title, description=title)
    parser.set_defaults(run=run)
    return parser


def _run_argument(parser: argparse.ArgumentParser, what: str = "run folder") -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help=what)


def _set_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="take this instead of what the recipe says, as in --set training.epochs=1; may be repeated",
    )


def _chip_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chip", default="loihi1", help="chip name or chip file (default: %(default)s)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _train(options: argparse.Namespace) -> None:
    device = available_device(options.device)
    recipe = load_recipe(options.recipe, options.set)
    data = load_data(recipe)
    recipe.check(len(data.train))
    recipe.check_data(data.train)
    check_fine_tuning(recipe, data)
    folder = RunFolder.prepare(options.out, overwrite=options.overwrite)
    scales: dict[str, Mapping[str, float]] = {}
    with folder.metrics() as record:
        result = train_recipe(
            recipe,
            data.train,
            pruned=not options.dense,
            record=record("dense" if options.dense else "pruned"),
            device=device,
        )
        if recipe.quantization is not None:
            result, found = fine_tune(result, recipe, data, record=record("fine-tuned"))
            scales[load_chip(recipe.quantization.chip).name] = found
    folder.drop_results()
    folder.save_recipe(recipe)
    folder.save_model(result.model, scales=scales)
    validation = accuracy(result.model, data.validation, predictor(result.model, recipe.time_steps), title="validation")
    folder.add_to_summary({"name": recipe.name, "validation_accuracy": validation, "sparsity": result.sparsity})
    print(f"validation accuracy {percent(validation)}, sparsity {percent(result.sparsity)}, in {options.out}")


def _synops(options: argparse.Namespace) -> None:
    folder = RunFolder.open(options.folder)
    recipe = folder.recipe
    images = load_data(recipe).test.subset(0, options.images)
    counted = measure_synops(folder.load_model(), images, recipe.time_steps)
    n = len(images)
    rows = [
        [name, quantity(c.synops / n), quantity(c.dense / n), quantity(c.macs / n)]
        for name, c in counted.layers.items()
    ]
    rows.append(["total", quantity(counted.total / n), quantity(counted.dense / n), quantity(counted.macs / n)])
    print(table(rows, ["per image", "SynOps", "SynOps, zeros billed", "MACs"]))


def _fit(options: argparse.Namespace) -> None:
    path: Path = options.recipe
    recipe = load_recipe(path / "recipe.toml" if path.is_dir() else path, options.set)
    data = load_data(recipe)
    network = to_network(recipe.model(), data.test.pixels(2), recipe.time_steps)
    chip = load_chip(options.chip)
    rows = check_fit(network, chip)
    print(table([r.cells() for r in rows], ["layer", "neurons", "largest fan-in", f"limit of {chip.name}", "verdict"]))
    for note in rows.not_enforced:
        print(f"note: {note}")
    cores = cores_needed(network, chip)
    if cores is not None:
        print(f"\nits neurons alone fill {cores} cores, {-(-cores // chip.cores_per_chip)} {chip.name} chip(s)")
    if too_large := [r for r in rows if r.excess]:
        for row in too_large:
            print(row.advice(chip))
        raise DoesNotFit(max(too_large, key=lambda r: r.excess).advice(chip))
    check_system(cores or 0, chip)


def _map(options: argparse.Namespace) -> None:
    if is_netx(options.folder):
        map_file(options)
        return
    folder = RunFolder.open(options.folder)
    chip = load_chip(options.chip)
    out = options.out or folder.path / "placement.npz"
    check_free(out, overwrite=options.overwrite)
    real, network = _networks(folder, options.chip)
    mapped = map_network(network, (chip,), chip_images(folder.recipe).pixels(options.images))
    placement, cost = mapped.placements[chip.name], mapped.estimates[chip.name]
    placement.save(out, overwrite=options.overwrite)
    rows = [[name, str(cores.size), str(len(set(cores.tolist())))] for name, cores in placement.cores.items()]
    print(table(rows, ["population", "neurons", "on cores"]))
    energy = (
        quantity(cost.energy, "J") if cost.energy is not None else "unknown (its cost per operation is unpublished)"
    )
    print(
        f"\n{placement.core_count} cores (at least {placement.lower_bound}) on {placement.chips} {chip.name} chip(s);"
        f" energy per image {energy}"
    )
    count = cost.per_sample
    print(
        f"per image: {quantity(count['synaptic_events'])} synaptic events, {quantity(count['messages'])} messages to"
        f" cores, {quantity(cost.hops)} hops; time {quantity(cost.time, 's')}"
    )
    if removed := sum(p.size for p in real.populations) - sum(p.size for p in network.populations):
        print(f"note: left out {removed} neurons that no output depends on")
    for note in (*placement.assumptions, *placement.not_enforced):
        print(f"note: {note}")
    print(f"written to {out}")


def _export(options: argparse.Namespace) -> None:
    folder = RunFolder.open(options.folder)
    out = options.out or folder.path / {"netx": "model.net", "nir": "model.nir", "sanafe": "sanafe"}[options.format]
    if options.format != "sanafe":  # which is a folder
        check_free(out, overwrite=options.overwrite)
    # SANA-FE's files, too, need what passes layers to be relayed.
    for_format = None if options.format == "nir" else "netx"
    network, chip_network = _networks(folder, options.chip, for_format)
    if options.format == "nir":
        write_nir(network, out, overwrite=options.overwrite)
    elif options.format == "sanafe":
        _export_sanafe(folder, chip_network, load_chip(options.chip), out, overwrite=options.overwrite)
    else:
        export_netx(chip_network, out, overwrite=options.overwrite)
    print(f"written to {out}")


def _export_sanafe(folder: RunFolder, network: ChipNetwork, chip: Chip, out: Path, *, overwrite: bool) -> None:
    """The first test image on the cores that `map` finds."""
    sequential = insert_relays(network)
    activity = emulate(sequential, chip_images(folder.recipe).pixels(1))
    entry = sequential.inputs[0].name
    export_sanafe(place(sequential, chip), activity.spikes[entry][:, 0], out, overwrite=overwrite)


def _emulate(options: argparse.Namespace) -> None:
    folder = RunFolder.open(options.folder)
    _, network = _networks(folder, options.chip)
    data = chip_images(folder.recipe)
    exact = emulated_accuracy(network, data, title="chip")
    model = folder.load_model()
    real = accuracy(model, data, predictor(model, folder.recipe.time_steps))
    print(f"accuracy on {len(data)} test images: model {percent(real)}, in {options.chip} integers {percent(exact)}")


def _verify(options: argparse.Namespace) -> None:
    if is_netx(options.folder):
        verify_file(options)
        return
    folder = RunFolder.open(options.folder)
    _, network = _networks(folder, options.chip, "netx")
    images = lava_images(chip_images(folder.recipe), options.images)
    with tempfile.TemporaryDirectory() as temporary, progress_bar(None, "Lava") as bar:
        export_netx(network, Path(temporary, "model.net"))
        result = compare_with_lava(network, Path(temporary, "model.net"), images, waiting=bar.update)
    print(
        f"{result.differences} differences from Lava in {result.compared} spikes of all layers,"
        f" {result.samples} images; {result.readout_differences} in the readout"
    )


def _report(options: argparse.Namespace) -> None:
    print(f"written to {write_report(options.folder, overwrite=options.overwrite)}")


def _chips(options: argparse.Namespace) -> None:
    if options.name is None:
        print("\n".join(available_chips()))
        return
    chip = load_chip(options.name)
    rows = [[f.key, f.text, f.unit, f.source] for f in chip.facts]
    print(table(rows, [chip.name, "value", "unit", "source"], left=(0, 2, 3)))
    print(f"\nunknown (unpublished, or this chip has no such thing): {', '.join(chip.unknown) or 'nothing'}")


def _networks(folder: RunFolder, chip: str, for_format: str | None = None) -> tuple[Network, ChipNetwork]:
    recipe, kind = folder.recipe, load_chip(chip)
    images = chip_images(recipe).pixels(2)
    network = to_network(folder.load_model(), images, recipe.time_steps)
    seen = calibration_images(load_data(recipe))
    return network, to_chip(network, kind, seen, folder.scales(kind.name), for_format=for_format)
