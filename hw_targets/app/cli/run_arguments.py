"""What the subcommands take that make a run and bring it to a chip; each gives the call that its arguments ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hw_targets.app.cli.console import Console
from hw_targets.app.cli.options import (
    Call,
    Changes,
    Chip,
    Json,
    OverwriteFile,
    OverwriteRun,
    Quiet,
    RunFolder,
    RunOrNetx,
    chip_names,
)


def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    size: Annotated[
        Literal["quick", "full", "small"],
        typer.Option(help="full: longer, more accurate; small: a minute, for continuous integration."),
    ] = "quick",
    overwrite: OverwriteRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> Call:
    """The whole chain on Fashion-MNIST: train, prune, map, export, verify."""

    def run() -> None:
        from hw_targets.app.cli.demo import run_demo

        run_demo(out, size, overwrite=overwrite, console=Console(json, quiet))

    return run


def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe file (.toml); with --resume it may be left out.", show_default=False)
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="New run folder.", show_default=False)],
    dense: Annotated[bool, typer.Option("--dense", help="Do not prune.")] = False,
    chip: Annotated[
        str | None,
        typer.Option(
            "--chip",
            help="Chip name or chip file: prune so that no neuron receives or sends more synapses than it allows, with"
            " its numbers as the recipe's pruning.fan_in and fan_out.",
            autocompletion=chip_names,
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Where to train, such as cuda (default: cpu, or where the run was begun).", show_default=False
        ),
    ] = None,
    changes: Changes = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run that was interrupted on its way to --out, bit for bit as if it had not been; where"
            " there is none, begin it. SIGTERM makes a run save a checkpoint and end with status 143.",
        ),
    ] = False,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="STEPS",
            help="Save a checkpoint after every so many optimizer steps (default: every ten minutes).",
            show_default=False,
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write TensorBoard's event files there while it trains.", show_default=False
        ),
    ] = None,
    overwrite: OverwriteRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> Call:
    """Train and prune a recipe's model."""

    def run() -> None:
        from hw_targets.app.cli.training import train
        from hw_targets.app.run.caps import caps_of
        from hw_targets.app.run.training import Request
        from neuroprune.training.toml import InvalidRecipe

        if chip is not None and dense:
            raise InvalidRecipe("train: --chip caps what pruning leaves, and --dense prunes nothing; give one of them")
        changed = (*(caps_of(chip) if chip is not None else ()), *(changes or ()))
        asked = Request(out, recipe, changed, dense, device, checkpoint_every, resume, overwrite, tensorboard)
        train(asked, Console(json, quiet))

    return run


def synops(
    folder: RunFolder,
    images: Annotated[int, typer.Option(min=1, help="Test images to average over.")] = 200,
    json: Json = False,
    quiet: Quiet = False,
) -> Call:
    """Count synaptic operations exactly."""

    def run() -> None:
        from hw_targets.app.cli.training import synops

        synops(folder, images, Console(json, quiet))

    return run


def fit(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (.toml) or run folder.", show_default=False)],
    changes: Changes = None,
    chip: Chip = "loihi1",
    json: Json = False,
    quiet: Quiet = False,
) -> Call:
    """Say, before training, which layers exceed a chip's limits."""

    def run() -> None:
        from hw_targets.app.cli.deployment import fit

        fit(recipe, changes or (), chip, Console(json, quiet))

    return run


def map_(
    folder: RunOrNetx,
    chip: Chip = "loihi1",
    images: Annotated[int, typer.Option(min=1, help="Test images for the energy.")] = 100,
    out: Annotated[
        Path | None,
        typer.Option(help="Placement file (default: placement.npz in the run folder).", show_default=False),
    ] = None,
    overwrite: OverwriteFile = False,
    json: Json = False,
    quiet: Quiet = False,
) -> Call:
    """Lay a run's network on a chip's cores."""

    def run() -> None:
        from hw_targets.app.cli.deployment import map_

        map_(folder, chip, images, out, overwrite=overwrite, console=Console(json, quiet))

    return run


def export(
    folder: RunFolder,
    chip: Chip = "loihi1",
    kind: Annotated[
        Literal["netx", "nir", "sanafe", "json", "npz"] | None,
        typer.Option(
            "--format",
            help="Default: what the chip's own tools take (Loihi: netx for Lava; Xylo: json; Speck: npz).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File, or folder for sanafe (default: model.net, model.nir, model.json, model.npz or the folder sanafe"
            " in the run folder).",
            show_default=False,
        ),
    ] = None,
    overwrite: OverwriteFile = False,
    json: Json = False,
    quiet: Quiet = False,
) -> Call:
    """Write a run's network for other tools."""

    def run() -> None:
        from hw_targets.app.cli.deployment import export

        export(folder, chip, kind, out, overwrite=overwrite, console=Console(json, quiet))

    return run


def emulate(folder: RunFolder, chip: Chip = "loihi1", json: Json = False, quiet: Quiet = False) -> Call:
    """Classify the test set in the chip's integers."""

    def run() -> None:
        from hw_targets.app.cli.deployment import emulate_

        emulate_(folder, chip, Console(json, quiet))

    return run


def verify(
    folder: RunOrNetx,
    chip: Chip = "loihi1",
    images: Annotated[int, typer.Option(min=1, help="Test images; of a netx file, samples drawn at random.")] = 3,
    json: Json = False,
    quiet: Quiet = False,
) -> Call:
    """Compare every spike with the simulator that judges the chip (Lava, xylosim, sinabs)."""

    def run() -> None:
        from hw_targets.app.cli.deployment import verify

        verify(folder, chip, images, Console(json, quiet))

    return run
