"""The subcommands, in the order that --help lists them, each from a module that is imported when it runs.

Parsing is one thing and running another: `parse` gives the call that arguments ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import typer

from hw_targets.app.cli.options import Call
from hw_targets.app.cli.other_arguments import chips, deploy, report
from hw_targets.app.cli.run_arguments import demo, emulate, export, fit, map_, synops, train, verify

#: Typer's status where nobody reads what it says any more, as behind `| head`: which is no failure.
NOBODY_READS = 1

app = typer.Typer(help="Prune spiking networks, lay them on neuromorphic cores, export and verify them.")
for _command in (demo, train, synops, fit, map_, export, emulate, verify, deploy, report, chips):
    app.command(name=_command.__name__.rstrip("_"))(_command)


def parse(arguments: Sequence[str]) -> Call:
    """The call that arguments ask for.

    Raises:
        SystemExit: 0 after --help, 2 with one sentence and a hint where they are none of a command.
    """
    try:
        found = typer.main.get_command(app).main(list(arguments), prog_name="neuroprune", standalone_mode=False)
    except _refusals() as error:
        _refuse(error)
    except SystemExit as end:  # of what typer says by itself, help and completion
        raise SystemExit(0 if end.code == NOBODY_READS else end.code) from None
    if not callable(found):  # help or completion, which is all that was asked for
        raise SystemExit(found)
    call: Call = found
    return call


def _refusals() -> type[Exception]:
    """Click's exceptions: its own package's, or since typer 0.26 of a copy within typer, which has no public name."""
    return next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _refuse(error: Exception) -> NoReturn:
    """One sentence, and where to look."""
    message: str = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    command = "neuroprune" if context is None else context.command_path
    sentence = " ".join(message.replace("Value error, ", "").split()).rstrip(".")
    typer.echo(f"neuroprune: error: {sentence}; see {command} --help", err=True)
    raise SystemExit(2)
