"""What each subcommand takes. Nothing heavy is imported here: a subcommand's module is when it runs.

`run` is "module:function" of this package.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parsers(subparsers: Any) -> None:
    """Register the subcommands, in the order that --help lists them."""
    _add_demo(subparsers)
    _add_train(subparsers)
    _add_synops(subparsers)
    _add_fit(subparsers)
    _add_map(subparsers)
    _add_export(subparsers)
    _add_emulate(subparsers)
    _add_verify(subparsers)
    _add_deploy(subparsers)
    _add_report(subparsers)
    _add_chips(subparsers)


def _add_demo(subparsers: Any) -> None:
    title = "the whole chain on Fashion-MNIST: train, prune, map, export, verify"
    demo = _parser(subparsers, "demo", "demo:demo", title)
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="run folder (default: %(default)s)")
    demo.add_argument("--size", choices=("full", "small"), default="full", help="small: about a minute, less accurate")
    _overwrite_argument(demo, "replace an earlier run in the same folder, as a whole, once the new one is finished")


def _add_train(subparsers: Any) -> None:
    train = _parser(subparsers, "train", "training:train", "train and prune a recipe's model")
    train.add_argument("recipe", type=Path, nargs="?", help="recipe file (.toml); with --resume it may be left out")
    train.add_argument("--out", type=Path, required=True, help="new run folder")
    train.add_argument("--dense", action="store_true", help="do not prune")
    train.add_argument("--device", help="where to train, such as cuda (default: cpu, or where the run was begun)")
    _set_argument(train)
    train.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run that was interrupted on its way to --out, bit for bit as if it had not been; where"
        " there is none, begin it. SIGTERM makes a run save a checkpoint and end with status 143",
    )
    train.add_argument(
        "--checkpoint-every",
        type=_positive,
        metavar="STEPS",
        help="save a checkpoint after every so many optimizer steps (default: every ten minutes)",
    )
    _overwrite_argument(train, "replace an earlier run in the same folder, as a whole, once the new one is finished")


def _add_synops(subparsers: Any) -> None:
    synops = _parser(subparsers, "synops", "training:synops", "count synaptic operations exactly")
    _run_argument(synops)
    _images_argument(synops, 200, "test images to average over")


def _add_fit(subparsers: Any) -> None:
    fit = _parser(subparsers, "fit", "deployment:fit", "say, before training, which layers exceed a chip's limits")
    fit.add_argument("recipe", type=Path, help="recipe file (.toml) or run folder")
    _set_argument(fit)
    _chip_argument(fit)


def _add_map(subparsers: Any) -> None:
    mapping = _parser(subparsers, "map", "deployment:map_", "lay a run's network on a chip's cores")
    _run_argument(mapping, "run folder, or netx file (.net)")
    _chip_argument(mapping)
    _images_argument(mapping, 100, "test images for the energy")
    mapping.add_argument("--out", type=Path, help="placement file (default: placement.npz in the run folder)")
    _overwrite_argument(mapping, "replace an existing file")


def _add_export(subparsers: Any) -> None:
    export = _parser(subparsers, "export", "deployment:export", "write a run's network for other tools")
    _run_argument(export)
    _chip_argument(export)
    formats = ("netx", "nir", "sanafe", "json", "npz")
    text = "default: what the chip's own tools take (Loihi: netx for Lava; Xylo: json)"
    export.add_argument("--format", choices=formats, help=text)
    names = "model.net, model.nir, model.json, model.npz or the folder sanafe"
    export.add_argument("--out", type=Path, help=f"file, or folder for sanafe (default: {names} in the run folder)")
    _overwrite_argument(export, "replace an existing file")


def _add_emulate(subparsers: Any) -> None:
    title = "classify the test set in the chip's integers"
    emulation = _parser(subparsers, "emulate", "deployment:emulate_", title)
    _run_argument(emulation)
    _chip_argument(emulation)


def _add_verify(subparsers: Any) -> None:
    title = "compare every spike with the simulator that judges the chip (Lava, xylosim)"
    verify = _parser(subparsers, "verify", "deployment:verify", title)
    _run_argument(verify, "run folder, or netx file (.net), which gets random inputs")
    _chip_argument(verify)
    _images_argument(verify, 3, "test images")


def _add_deploy(subparsers: Any) -> None:
    deploy = _parser(
        subparsers, "deploy", "deploying:deploy_", "your own trained model and data, on a chip, in a report"
    )
    deploy.add_argument(
        "model", metavar="PACKAGE.MODULE:FACTORY", help="callable that builds the model; it is executed"
    )
    deploy.add_argument("--weights", type=Path, help="its state_dict: .safetensors, or what torch.save wrote")
    deploy.add_argument("--dense", type=Path, metavar="WEIGHTS", help="weights before pruning, to be shown beside it")
    deploy.add_argument(
        "--data",
        required=True,
        help="an .npz file with arrays x and y (or x_train, y_train, x_test, y_test), a recipe, a folder of images,"
        " fashion-mnist, events, signals, tonic, saccades, or package.module:callable",
    )
    for what in ("model", "data"):
        help_ = f"argument of the {what}'s factory; may be repeated"
        deploy.add_argument(f"--{what}-arg", action="append", default=[], metavar="KEY=VALUE", help=help_)
    _chip_argument(deploy)
    deploy.add_argument("--time-steps", type=_positive, help="steps a sample is shown, where it has none of its own")
    deploy.add_argument("--out", type=Path, required=True, help="new folder for the files and report.html")
    counts = {"samples": (100, "averaged over for the energy"), "tested": (1000, "classified, at most")}
    counts["compared"] = (2, "of which every spike is compared with the chip's simulator")
    for name, (default, text) in counts.items():
        deploy.add_argument(
            f"--{name}", type=_positive, default=default, help=f"test samples {text} (default: {default})"
        )
    deploy.add_argument("--name", help="title of the report (default: the model's class)")
    _overwrite_argument(deploy, "replace an earlier deployment in the same folder")


def _add_report(subparsers: Any) -> None:
    report = _parser(
        subparsers, "report", "reporting:report", "write a run's report.html, or a page that compares several runs"
    )
    report.add_argument("folder", type=Path, nargs="+", metavar="RUN", help="run folder; two or more are compared")
    report.add_argument("--csv", type=Path, help="write the numbers of every training step of one run there, too")
    report.add_argument("--out", type=Path, help="page to write, for several runs (default: comparison.html)")
    _overwrite_argument(report, "replace an existing report")


def _add_chips(subparsers: Any) -> None:
    chips = _parser(subparsers, "chips", "chips:chips", "list the chips, or one chip's numbers with their sources")
    chips.add_argument("name", nargs="?", help="chip name or chip file (.toml)")


def _parser(subparsers: Any, name: str, run: str, title: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=title, description=title)
    parser.set_defaults(run=run)
    return parser


def _run_argument(parser: argparse.ArgumentParser, what: str = "run folder") -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help=what)


def _overwrite_argument(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--overwrite", action="store_true", help=what)


def _images_argument(parser: argparse.ArgumentParser, default: int, what: str) -> None:
    parser.add_argument("--images", type=_positive, default=default, help=f"{what} (default: %(default)s)")


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
