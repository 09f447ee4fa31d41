"""Signals as .ts files of the UEA archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_signals(path: Path, samples: int, seed: int) -> None:
    """Three channels of 5 to 8 values; the classes differ in their mean."""
    rng = np.random.default_rng(seed)
    lines = ["@problemName made", "@timeStamps false", "@classLabel true 0 1", "@data"]
    for index in range(samples):
        values = rng.normal(index % 2, 1, (3, int(rng.integers(5, 9))))
        lines.append(":".join([",".join(f"{v:.4f}" for v in channel) for channel in values] + [str(index % 2)]))
    path.write_text("\n".join(lines) + "\n")
