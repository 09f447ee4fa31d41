"""The command `neuroprune`: one subcommand per stage, and `demo` for all of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hw_targets.app.run.stopping import TERMINATED, Terminated
from hw_targets.errors import HardwareTargetError
from neuroprune._require import require
from neuroprune.training.data.base import DatasetNotFound
from neuroprune.training.toml import InvalidRecipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 2 with one sentence on standard error for anything the user can mend.

    130 after Ctrl-C, and 143 after SIGTERM, of which `train` takes leave with a checkpoint.

    Raises:
        SystemExit: 0 after --help, 2 where the arguments are none of a command.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")  # a recipe's model may live in the current folder, as with `python -m`
    try:
        require("typer", "cli")
        from hw_targets.app.cli.commands import parse

        parse(sys.argv[1:] if arguments is None else arguments)()
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
