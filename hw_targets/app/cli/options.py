"""Arguments that several subcommands take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

#: What a subcommand does when it is run.
Call: TypeAlias = Callable[[], None]


def chip_names() -> list[str]:
    """For the shell's completion."""
    from hw_targets.targets.registry import available_chips

    return list(available_chips())


RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", show_default=False)]
RunOrNetx = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, or netx file (.net).", show_default=False)]
Chip = Annotated[str, typer.Option("--chip", help="Chip name or chip file.", autocompletion=chip_names)]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="TABLE.KEY=VALUE",
        help="Take this instead of what the recipe says, as in --set training.epochs=1; may be repeated.",
        show_default=False,
    ),
]
OverwriteFile = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
OverwriteRun = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace an earlier run in the same folder, as a whole, once the new one is finished.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, all else to standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the result alone: no progress, no notes.")]
ChipName = Annotated[
    str | None, typer.Argument(help="Chip name or chip file (.toml).", autocompletion=chip_names, show_default=False)
]
