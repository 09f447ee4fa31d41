"""What `deploy`, `report` and `chips` take; each gives the call that its arguments ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hw_targets.app.cli.console import Console
from hw_targets.app.cli.options import (
    Call,
    Chip,
    ChipName,
    Json,
    Quiet,
)


def deploy(
    model: Annotated[
        str,
        typer.Argument(
            metavar="PACKAGE.MODULE:FACTORY",
            help="Callable that builds the model; it is executed. Or a folder of neuroprune.save_pretrained.",
            show_default=False,
        ),
    ],
    *,
    data: Annotated[
        str,
        typer.Option(
            help="An .npz file with arrays x and y (or x_train, y_train, x_test, y_test), a recipe, a folder of images,"
            " fashion-mnist, events, signals, tonic, saccades, or package.module:callable.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the files and report.html.", show_default=False)],
    weights: Annotated[
        Path | None,
        typer.Option(help="Its state_dict: .safetensors, or what torch.save wrote.", show_default=False),
    ] = None,
    dense: Annotated[
        Path | None,
        typer.Option(metavar="WEIGHTS", help="Weights before pruning, to be shown beside it.", show_default=False),
    ] = None,
    model_arg: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Argument of the model's factory; may be repeated.", show_default=False),
    ] = None,
    data_arg: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Argument of the data's factory; may be repeated.", show_default=False),
    ] = None,
    chip: Chip = "loihi1",
    time_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps a sample is shown, where it has none of its own.", show_default=False),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Test samples averaged over for the energy.")] = 100,
    tested: Annotated[int, typer.Option(min=1, help="Test samples classified, at most.")] = 1000,
    compared: Annotated[
        int, typer.Option(min=1, help="Test samples of which every spike is compared with the chip's simulator.")
    ] = 2,
    name: Annotated[
        str | None, typer.Option(help="Title of the report (default: the model's class).", show_default=False)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier deployment in the same folder.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> Call:
    """Your own trained model and data, on a chip, in a report."""

    def run() -> None:
        from hw_targets.app.cli.deploying import Asked, deploy_

        given = (model, tuple(model_arg or ())), (data, tuple(data_arg or ()))
        asked = Asked(*given, chip, out, weights, dense, time_steps, samples, tested, compared, overwrite, name)
        deploy_(asked, Console(json, quiet))

    return run


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folder; two or more are compared.", show_default=False),
    ],
    csv: Annotated[
        Path | None,
        typer.Option(help="Write the numbers of every training step of one run there, too.", show_default=False),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write them as TensorBoard's event files in a new folder, too.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Page to write, for several runs (default: comparison.html).", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> Call:
    """Write a run's report.html, or a page that compares several runs."""

    def run() -> None:
        from hw_targets.app.cli.reporting import Scalars, report

        report(folders, Scalars(csv, tensorboard), out, overwrite=overwrite, console=Console(json, quiet))

    return run


def chips(name: ChipName = None, json: Json = False, quiet: Quiet = False) -> Call:
    """List the chips, or one chip's numbers with their sources."""

    def run() -> None:
        from hw_targets.app.cli.chips import chips

        chips(name, Console(json, quiet))

    return run
