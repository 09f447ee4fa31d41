"""`neuroprune fit`, `map`, `export`, `emulate` and `verify`: a run on its way to a chip."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hw_targets.app.cli.netx_files import is_netx, map_file, verify_file
from hw_targets.app.cli.opening import open_run
from hw_targets.app.cli.tables import percent, quantity, table
from hw_targets.app.run.hashes import check
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.stages import (
    calibration_images,
    chip_images,
    emulated_accuracy,
    first_samples,
    lava_images,
    load_data,
    map_network,
    mapping_summary,
    read_network,
    to_chip,
)
from hw_targets.chips.chip import Chip
from hw_targets.emulation.emulate import emulate
from hw_targets.errors import DoesNotFit, InvalidChip
from hw_targets.files.atomic import check_free
from hw_targets.frontends.nir.writer import write_nir
from hw_targets.ir.network import ChipNetwork, Network
from hw_targets.placement import place
from hw_targets.placement.fit import check_fit, cores_needed
from hw_targets.placement.limits import check_system
from hw_targets.targets.loihi.netx.relays import insert_relays
from hw_targets.targets.loihi.sanafe.writer import FILES, export_sanafe
from hw_targets.targets.registry import load_chip
from neuroprune.training.loop import accuracy, predictor, progress_bar
from neuroprune.training.recipe import load_recipe


def fit(options: argparse.Namespace) -> None:
    path: Path = options.recipe
    if os.path.isdir(path):  # which takes names of any length
        check(path)
        path = path / "recipe.toml"
    recipe = load_recipe(path, options.set)
    data = load_data(recipe)
    network = read_network(recipe.model(), data.test, recipe.time_steps)
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


def map_(options: argparse.Namespace) -> None:
    if is_netx(options.folder):
        map_file(options)
        return
    folder = open_run(options.folder, making=("placement.npz",))
    chip = load_chip(options.chip)
    out = options.out or folder.path / "placement.npz"
    check_free(out, overwrite=options.overwrite)
    real, network = _networks(folder, options.chip)
    mapped = map_network(network, (chip,), first_samples(chip_images(folder.recipe), options.images))
    placement, cost = mapped.placements[chip.name], mapped.estimates[chip.name]
    with folder.new_result(out, overwrite=options.overwrite) as temporary:
        placement.save(temporary, overwrite=True)
    maps = folder.summary().get("maps", {})
    folder.add_to_summary({"maps": {**maps, chip.name: mapping_summary(placement, cost, options.images)}})
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
    for remark in chip.supported("map").remarks(network, mapped.activity, chip):
        print(remark)
    print(
        f"per image: {quantity(count['synaptic_events'])} synaptic events, {quantity(count['messages'])} messages to"
        f" cores, {quantity(cost.hops)} hops; time {quantity(cost.time, 's')}"
    )
    if removed := sum(p.size for p in real.populations) - sum(p.size for p in network.populations):
        print(f"note: left out {removed} neurons that no output depends on")
    for note in (*placement.assumptions, *placement.not_enforced):
        print(f"note: {note}")
    print(f"written to {out}")


def export(options: argparse.Namespace) -> None:
    chip = load_chip(options.chip)
    exporters = chip.supported("export").exporters
    kind = options.format or next(iter(exporters))
    # SANA-FE's files come of netx's integers, in which what passes layers is relayed.
    for_format = None if kind == "nir" else "netx" if kind == "sanafe" else kind
    if for_format is not None and for_format not in exporters:
        raise InvalidChip(f"export: {chip.name} is not written as {kind}; take {', '.join((*exporters, 'nir'))}")
    name = {"netx": "model.net", "sanafe": "sanafe"}.get(kind, f"model.{kind}")
    parts = [f"/{part}" for part in FILES] if kind == "sanafe" else [""]  # SANA-FE's is a folder
    folder = open_run(options.folder, making=[name + part for part in parts])
    out = options.out or folder.path / name
    for part in parts:
        if kind != "sanafe" or os.path.isdir(out):
            check_free(f"{out}{part}", overwrite=options.overwrite)
    network, chip_network = _networks(folder, options.chip, for_format)
    if kind == "sanafe":
        with folder.new_results([Path(f"{out}{part}") for part in parts], overwrite=options.overwrite) as temporary:
            _export_sanafe(folder, chip_network, chip, temporary)
    else:
        with folder.new_result(out, overwrite=options.overwrite) as temporary:
            if kind == "nir":
                write_nir(network, temporary, overwrite=True)
            else:
                exporters[kind](chip_network, temporary, overwrite=True)
    print(f"written to {out}")


def _export_sanafe(folder: RunFolder, network: ChipNetwork, chip: Chip, out: Path) -> None:
    """The first test image on the cores that `map` finds."""
    sequential = insert_relays(network)
    activity = emulate(sequential, first_samples(chip_images(folder.recipe), 1))
    entry = sequential.inputs[0].name
    export_sanafe(place(sequential, chip), activity.spikes[entry][:, 0], out)


def emulate_(options: argparse.Namespace) -> None:
    folder = open_run(options.folder)
    _, network = _networks(folder, options.chip)
    data = chip_images(folder.recipe)
    exact = emulated_accuracy(network, data, title="chip")
    model = folder.load_model()
    real = accuracy(model, data, predictor(model, folder.recipe.time_steps, data))
    print(f"accuracy on {len(data)} test images: model {percent(real)}, in {options.chip} integers {percent(exact)}")


def verify(options: argparse.Namespace) -> None:
    if is_netx(options.folder):
        verify_file(options)
        return
    folder = open_run(options.folder)
    target = load_chip(options.chip).supported("verify")
    _, network = _networks(folder, options.chip, next(iter(target.exporters)))
    images = lava_images(chip_images(folder.recipe), options.images)
    with progress_bar(None, "verifying") as bar:
        verdict = target.verify(network, images, bar.update)
    print(f"{verdict}\njudge: {target.judge}")


def _networks(folder: RunFolder, chip: str, for_format: str | None = None) -> tuple[Network, ChipNetwork]:
    recipe, kind = folder.recipe, load_chip(chip)
    network = read_network(folder.load_model(), chip_images(recipe), recipe.time_steps)
    seen = calibration_images(load_data(recipe))
    return network, to_chip(network, kind, seen, folder.scales(kind.name), for_format=for_format)
