"""The command `neuroprune`: one subcommand per stage, and `demo` for all of them."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from hw_targets.app.cli.parsers import add_parsers
from hw_targets.app.run.stopping import TERMINATED, Terminated
from hw_targets.errors import HardwareTargetError
from neuroprune.training.data.base import DatasetNotFound
from neuroprune.training.toml import InvalidRecipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 2 with one sentence on standard error for anything the user can mend.

    130 after Ctrl-C, and 143 after SIGTERM, of which `train` takes leave with a checkpoint.
    """
    parser = argparse.ArgumentParser(
        prog="neuroprune",
        description="Prune spiking networks, lay them on neuromorphic cores, export and verify them.",
    )
    add_parsers(parser.add_subparsers(dest="command", required=True, metavar="COMMAND"))
    options = parser.parse_args(arguments)
    if "" not in sys.path:
        sys.path.insert(0, "")  # a recipe's model may live in the current folder, as with `python -m`
    try:
        module, _, function = options.run.partition(":")
        getattr(importlib.import_module(f"{__name__}.{module}"), function)(options)
    except (HardwareTargetError, InvalidRecipe, DatasetNotFound, ImportError, FloatingPointError) as error:
        print(f"neuroprune: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except Terminated as end:
        print(f"neuroprune: {end}", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("neuroprune: interrupted", file=sys.stderr)
        return 130
    return 0
