"""The numbers of every training step for TensorBoard, while a run trains or afterwards."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hw_targets.errors import InvalidFile
from neuroprune._require import require
from neuroprune.training.loop import Record


class Board:
    """Event files below a folder, one subfolder per run: dense, pruned, fine-tuned. Where there is no folder, none.

    Raises:
        ImportError: tensorboard is not installed; the message has the line that installs it.
        InvalidFile: the folder cannot be one.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._writers: dict[str, Any] = {}
        if folder is not None:
            require("tensorboard", "tensorboard")
            try:
                Path(folder).mkdir(parents=True, exist_ok=True)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise InvalidFile(
                    f"{folder} cannot be a folder: {reason}; choose another one with --tensorboard"
                ) from error

    def recorder(self, run: str, record: Record) -> Record:
        """`record`, and the same numbers to the board. Steps from the first one on replace those of an earlier try."""
        if self._folder is None:
            return record

        def both(row: dict[str, float]) -> None:
            record(row)
            self.add(run, row)

        return both

    def add(self, run: str, row: Mapping[str, float]) -> None:
        """All numbers of one step."""
        step = int(row["step"])
        if run not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            assert self._folder is not None
            self._writers[run] = SummaryWriter(str(self._folder / run), purge_step=step)
        for key, value in row.items():
            if key != "step" and isinstance(value, (int, float)):
                self._writers[run].add_scalar(key, value, step)

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()
