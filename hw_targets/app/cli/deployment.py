"""`neuroprune fit`, `map`, `export`, `emulate` and `verify`: a run on its way to a chip."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from hw_targets.app.cli.console import Console
from hw_targets.app.cli.netx_files import is_netx, map_file, verify_file
from hw_targets.app.cli.opening import open_run
from hw_targets.app.cli.tables import percent, quantity, table
from hw_targets.app.run import integers
from hw_targets.app.run.hashes import check
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.stages import (
    calibration_images,
    chip_data,
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
from hw_targets.errors import DoesNotFit, InvalidChip, InvalidFile
from hw_targets.estimation import Estimate
from hw_targets.files.atomic import check_free
from hw_targets.frontends.nir.writer import write_nir
from hw_targets.ir.network import ChipNetwork, Network
from hw_targets.placement import Placement, place
from hw_targets.placement.fit import check_fit, cores_needed
from hw_targets.placement.limits import check_system
from hw_targets.targets.loihi.netx.relays import insert_relays
from hw_targets.targets.loihi.sanafe.writer import FILES, export_sanafe
from hw_targets.targets.registry import load_chip
from neuroprune.training.data.base import DataSet, Split
from neuroprune.training.loop import accuracy, predictor
from neuroprune.training.progress import progress_bar
from neuroprune.training.recipe import load_recipe


def fit(path: Path, changes: Sequence[str], chip_name: str, console: Console) -> None:
    """Each layer against the chip's limits.

    Raises:
        DoesNotFit: one exceeds them; the message has the worst one's way out.
    """
    if os.path.isdir(path):  # which takes names of any length
        check(path)
        path = path / "recipe.toml"
    recipe = load_recipe(path, changes)
    data = load_data(recipe)
    network = read_network(recipe.model(), data.test, recipe.time_steps)
    chip = load_chip(chip_name)
    rows = check_fit(network, chip)
    cores = cores_needed(network, chip)
    too_large = [row for row in rows if row.excess]
    lines = [
        table([r.cells() for r in rows], ["layer", "neurons", "largest fan-in", f"limit of {chip.name}", "verdict"])
    ]
    if cores is not None:
        chips = -(-cores // chip.cores_per_chip)
        lines += ["", f"its neurons alone fill {cores} cores, {chips} {chip.name} chip(s)"]
    lines += [row.advice(chip) for row in too_large]
    values = {"chip": chip.name, "fits": not too_large, "cores_filled_by_neurons": cores}
    layers = [{**asdict(row), "excess": row.excess, "zeros_needed": row.sparsity} for row in rows]
    console.result(
        {**values, "layers": layers, "savings": list(rows.savings), "not_enforced": list(rows.not_enforced)},
        "\n".join((*lines, *rows.savings)),
    )
    console.notes(rows.not_enforced)
    if too_large:
        raise DoesNotFit(max(too_large, key=lambda r: r.excess).advice(chip))
    check_system(cores or 0, chip)


def map_(path: Path, chip_name: str, images: int, out: Path | None, *, overwrite: bool, console: Console) -> None:
    """A placement, and what some test images cost there."""
    if is_netx(path):
        map_file(path, chip_name, out, overwrite=overwrite, console=console)
        return
    folder = open_run(path, console, making=("placement.npz",))
    chip = load_chip(chip_name)
    out = out or folder.path / "placement.npz"
    check_free(out, overwrite=overwrite)
    data = chip_data(folder.recipe)
    real, network = _networks(folder, data, chip, console)
    mapped = map_network(network, (chip,), first_samples(data.test, images))
    placement, cost = mapped.placements[chip.name], mapped.estimates[chip.name]
    with folder.new_result(out, overwrite=overwrite) as temporary:
        placement.save(temporary, overwrite=True)
    found = mapping_summary(placement, cost, images)
    folder.change_summary(lambda summary: {**summary, "maps": {**summary.get("maps", {}), chip.name: found}})
    populations = {
        name: {"neurons": int(cores.size), "cores": len(set(cores.tolist()))} for name, cores in placement.cores.items()
    }
    values = {"chip": chip.name, **found, "per_image": dict(cost.per_sample), "hops": cost.hops}
    console.result(
        {**values, "populations": populations, "written": out},
        f"{_mapped_text(populations, placement, cost, chip)}\nwritten to {out}",
    )
    console.notes(chip.supported("map").remarks(network, mapped.activity, chip))
    if removed := sum(p.size for p in real.populations) - sum(p.size for p in network.populations):
        console.note(f"left out {removed} neurons that no output depends on")
    console.notes((*placement.assumptions, *placement.not_enforced))


def _mapped_text(populations: Mapping[str, Mapping[str, int]], placement: Placement, cost: Estimate, chip: Chip) -> str:
    rows = [[name, str(p["neurons"]), str(p["cores"])] for name, p in populations.items()]
    energy = (
        quantity(cost.energy, "J") if cost.energy is not None else "unknown (its cost per operation is unpublished)"
    )
    count = cost.per_sample
    return (
        f"{table(rows, ['population', 'neurons', 'on cores'])}\n\n"
        f"{placement.core_count} cores (at least {placement.lower_bound}) on {placement.chips} {chip.name} chip(s);"
        f" energy per image {energy}\n"
        f"per image: {quantity(count['synaptic_events'])} synaptic events, {quantity(count['messages'])} messages to"
        f" cores, {quantity(cost.hops)} hops; time {quantity(cost.time, 's')}"
    )


def export(
    path: Path, chip_name: str, kind: str | None, out: Path | None, *, overwrite: bool, console: Console
) -> None:
    """A file, or SANA-FE's files, of a run's network."""
    chip = load_chip(chip_name)
    exporters = chip.supported("export").exporters
    kind = kind or next(iter(exporters))
    # SANA-FE's files come of netx's integers, in which what passes layers is relayed.
    in_real_numbers = kind == "nir" and kind not in exporters
    for_format = None if in_real_numbers else "netx" if kind == "sanafe" else kind
    if for_format is not None and for_format not in exporters:
        known = {**exporters, **({"sanafe": None} if "netx" in exporters else {}), "nir": None}
        raise InvalidChip(f"export: {chip.name} is not written as {kind}; take {', '.join(known)}")
    name = {"netx": "model.net", "sanafe": "sanafe"}.get(kind, f"model.{kind}")
    parts = [f"/{part}" for part in FILES] if kind == "sanafe" else [""]  # SANA-FE's is a folder
    folder = open_run(path, console, making=[name + part for part in parts])
    out = out or folder.path / name
    for part in parts:
        if kind != "sanafe" or os.path.isdir(out):
            check_free(f"{out}{part}", overwrite=overwrite)
    data = chip_data(folder.recipe)
    network, chip_network = _networks(folder, data, chip, console, for_format)
    if kind == "sanafe":
        with folder.new_results([Path(f"{out}{part}") for part in parts], overwrite=overwrite) as temporary:
            _export_sanafe(data.test, chip_network, chip, temporary)
    else:
        with folder.new_result(out, overwrite=overwrite) as temporary:
            if in_real_numbers:
                write_nir(network, temporary, overwrite=True)
            else:
                exporters[kind](chip_network, temporary, overwrite=True)
    console.result({"format": kind, "chip": chip.name, "written": out}, f"written to {out}")


def _export_sanafe(data: DataSet, network: ChipNetwork, chip: Chip, out: Path) -> None:
    """The first test image on the cores that `map` finds."""
    sequential = insert_relays(network)
    activity = emulate(sequential, first_samples(data, 1))
    entry = sequential.inputs[0].name
    export_sanafe(place(sequential, chip), activity.spikes[entry][:, 0], out)


def emulate_(path: Path, chip_name: str, console: Console) -> None:
    """Test accuracy of the model and of its integers."""
    folder = open_run(path, console)
    chip = load_chip(chip_name)
    split = chip_data(folder.recipe)
    data, (_, network) = split.test, _networks(folder, split, chip, console)
    with console.progress():
        exact = emulated_accuracy(network, data, title="chip")
        model = folder.load_model()
        real = accuracy(model, data, predictor(model, folder.recipe.time_steps, data))
    console.result(
        {"chip": chip.name, "images": len(data), "model_accuracy": real, "chip_accuracy": exact},
        f"accuracy on {len(data)} test images: model {percent(real)}, in {chip.name} integers {percent(exact)}",
    )


def verify(path: Path, chip_name: str, images: int, console: Console) -> None:
    """The verdict of the chip's judge."""
    if is_netx(path):
        verify_file(path, chip_name, images, console)
        return
    folder = open_run(path, console)
    chip = load_chip(chip_name)
    target = chip.supported("verify")
    data = chip_data(folder.recipe)
    _, network = _networks(folder, data, chip, console, next(iter(target.exporters)))
    shown = lava_images(data.test, images)
    with console.progress(), progress_bar(None, "verifying") as bar:
        verdict = target.verify(network, shown, bar.update)
    console.result({**asdict(verdict), "judge": target.judge}, f"{verdict}\njudge: {target.judge}")


def _networks(
    folder: RunFolder, data: Split[DataSet], chip: Chip, console: Console, for_format: str | None = None
) -> tuple[Network, ChipNetwork]:
    """A run's network, and its integers: those that an earlier command found, or new ones, which are kept."""
    network = read_network(folder.load_model(), data.test, folder.recipe.time_steps)
    seen, scales = calibration_images(data), folder.scales(chip.name)
    tied = integers.tie(network, chip, seen.numpy(), scales, for_format)
    path = integers.path_of(folder.path, chip.name, for_format)
    if (known := integers.kept(folder.path, path, tied)) is not None:
        return network, known
    found = to_chip(network, chip, seen, scales, for_format=for_format)
    try:
        integers.keep(folder.path, path, found, tied, folder.sources)
    except InvalidFile as error:  # the command itself may need no place
        console.note(f"the integers are not kept for the next command: {error}")
    return network, found
