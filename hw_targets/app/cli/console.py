"""Where a command's words go: the result to standard output, and what is said on the way there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from hw_targets.errors import InvalidFile


@dataclass(frozen=True)
class Console:
    """How a command was asked to speak.

    Attributes:
        as_json: the result is one JSON object on standard output, where nothing else appears then.
        quiet: only the result, and errors: no progress, no stages, no notes.
    """

    as_json: bool = False
    quiet: bool = False

    def say(self, text: str) -> None:
        """What is being done, or is to be known besides the result."""
        if not self.quiet:
            _print(text, sys.stderr if self.as_json else sys.stdout)

    def note(self, text: str) -> None:
        """Something that the result rests on."""
        self.say(f"note: {text}")

    def notes(self, texts: Sequence[str]) -> None:
        """`note` for each."""
        for text in texts:
            self.note(text)

    def result(self, values: Mapping[str, Any], text: str) -> None:
        """What the command found: `values` as JSON, or `text`."""
        _print(json.dumps(values, default=_plain) if self.as_json else text, sys.stdout)

    def progress(self) -> AbstractContextManager[None]:
        """Within it, loops show how far they are, unless all is to be quiet."""
        if not self.quiet:
            return nullcontext()
        from neuroprune.training.progress import silent

        return silent()


def _print(text: str, stream: TextIO) -> None:
    """Print it; where nobody reads any more, as behind `| head`, the command goes on and says no more.

    Raises:
        InvalidFile: it cannot be written, as on a disk that is full.
    """
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        _close(stream)
    except OSError as error:
        _close(stream)
        raise InvalidFile(
            f"what it says cannot be written: {error.strerror}; make room, or give it elsewhere"
        ) from error


def _close(stream: TextIO) -> None:
    """What is said from now on, and what is left to be said, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _plain(value: object) -> object:
    """What JSON has no form for: paths as text, NumPy's numbers as Python's."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")
