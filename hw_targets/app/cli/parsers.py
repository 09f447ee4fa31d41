"""What each subcommand takes. Nothing heavy is imported here: a subcommand's module is when it runs.

`run` is "module:function" of this package.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parsers(subparsers: Any) -> None:
    """Register the subcommands."""
    demo = _parser(
        subparsers, "demo", "demo:demo", "the whole chain on Fashion-MNIST: train, prune, map, export, verify"
    )
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="run folder (default: %(default)s)")
    demo.add_argument("--size", choices=("full", "small"), default="full", help="small: about a minute, less accurate")
    demo.add_argument("--overwrite", action="store_true", help="replace an earlier run in the same folder")

    train = _parser(subparsers, "train", "training:train", "train and prune a recipe's model")
    train.add_argument("recipe", type=Path, help="recipe file (.toml)")
    train.add_argument("--out", type=Path, required=True, help="new run folder")
    train.add_argument("--dense", action="store_true", help="do not prune")
    train.add_argument("--device", default="cpu", help="where to train, such as cuda (default: %(default)s)")
    _set_argument(train)
    train.add_argument("--overwrite", action="store_true", help="replace an earlier run in the same folder")

    synops = _parser(subparsers, "synops", "training:synops", "count synaptic operations exactly")
    _run_argument(synops)
    synops.add_argument(
        "--images", type=_positive, default=200, help="test images to average over (default: %(default)s)"
    )

    fit = _parser(subparsers, "fit", "deployment:fit", "say, before training, which layers exceed a chip's limits")
    fit.add_argument("recipe", type=Path, help="recipe file (.toml) or run folder")
    _set_argument(fit)
    _chip_argument(fit)

    mapping = _parser(subparsers, "map", "deployment:map_", "lay a run's network on a chip's cores")
    _run_argument(mapping, "run folder, or netx file (.net)")
    _chip_argument(mapping)
    mapping.add_argument(
        "--images", type=_positive, default=100, help="test images for the energy (default: %(default)s)"
    )
    mapping.add_argument("--out", type=Path, help="placement file (default: placement.npz in the run folder)")
    mapping.add_argument("--overwrite", action="store_true", help="replace an existing file")

    export = _parser(subparsers, "export", "deployment:export", "write a run's network for other tools")
    _run_argument(export)
    _chip_argument(export)
    formats = ("netx", "nir", "sanafe")
    export.add_argument("--format", choices=formats, default="netx", help="default: %(default)s (Lava, Loihi)")
    names = "model.net, model.nir or the folder sanafe"
    export.add_argument("--out", type=Path, help=f"file, or folder for sanafe (default: {names} in the run folder)")
    export.add_argument("--overwrite", action="store_true", help="replace an existing file")

    emulation = _parser(subparsers, "emulate", "deployment:emulate_", "classify the test set in the chip's integers")
    _run_argument(emulation)
    _chip_argument(emulation)

    verify = _parser(
        subparsers, "verify", "deployment:verify", "compare every spike with Lava's own simulator (Lava installed)"
    )
    _run_argument(verify, "run folder, or netx file (.net), which gets random inputs")
    _chip_argument(verify)
    verify.add_argument("--images", type=_positive, default=3, help="test images (default: %(default)s)")

    report = _parser(subparsers, "report", "reporting:report", "write a run's report.html from its summary and metrics")
    _run_argument(report)
    report.add_argument("--overwrite", action="store_true", help="replace an existing report")

    chips = _parser(subparsers, "chips", "chips:chips", "list the chips, or one chip's numbers with their sources")
    chips.add_argument("name", nargs="?", help="chip name or chip file (.toml)")


def _parser(subparsers: Any, name: str, run: str, title: str) -> argparse.ArgumentParser:
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
