"""`python one_of_several.py NOTES STOP_AT train …`: `neuroprune train` in one of several processes, watched.

Writes the SHA-256 of the trained weights to NOTES/<rank>; the last process gets SIGTERM in step STOP_AT (0: never).
"""

import hashlib
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hw_targets.app.cli import main
from hw_targets.app.stages import training as training_stage

training: Any = training_stage  # whose `train` is watched
NOTES, STOP_AT, RANK = Path(sys.argv[1]), int(sys.argv[2]), int(os.environ.get("RANK", "0"))
train = training.train


def watched(model: Any, *arguments: Any, **options: Any) -> None:
    """Train, and say with what."""
    if STOP_AT and int(os.environ["WORLD_SIZE"]) - 1 == RANK:
        stopped_after(type(options["progress"]))
    train(model, *arguments, **options)
    digest = hashlib.sha256(b"".join(v.numpy().tobytes() for v in model.state_dict().values()))
    (NOTES / str(RANK)).write_text(digest.hexdigest())


def stopped_after(kind: Any) -> None:
    """SIGTERM to this process when so many steps are done, of which progress of this kind is told."""
    done = kind.done

    def stopping(self: Any, steps: int, running: Any) -> None:
        if steps == STOP_AT:
            os.kill(os.getpid(), signal.SIGTERM)
        done(self, steps, running)

    kind.done = stopping


random.seed(5 + RANK)  # what a recipe does not seed, and each process may have from anywhere
np.random.seed(5 + RANK)  # noqa: NPY002 - what models may draw from
training.train = watched
sys.exit(main(sys.argv[3:]))
