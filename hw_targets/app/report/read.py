"""Reading a run folder: what is missing or of another type is None, what cannot be parsed is refused."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from hw_targets.errors import InvalidFile

Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """`summary` as summary.json holds it, `steps` as the lines of metrics.jsonl."""

    summary: Record
    steps: tuple[Record, ...]

    @property
    def layers(self) -> list[Record]:
        """The records of the layers, in the network's order."""
        return records(self.summary, "layers")

    @property
    def chips(self) -> list[str]:
        """Chips that the summary says something about."""
        return list(dict.fromkeys([*table(self.summary, "cores"), *table(self.summary, "core_usage")]))

    @property
    def versions(self) -> dict[str, str]:
        """What the run's numbers are of, and what they are called: dense and pruned, or one model alone."""
        both = any(
            number(self.summary, key) is not None for key in ("dense_accuracy", "synops_dense", "energy_dense_j")
        )
        return {"dense": "dense", "pruned": "pruned"} if both else {"pruned": "model"}

    def values(self, key: str) -> dict[str, float | None]:
        """A number of each version; `key` has {} where the version stands."""
        return {version: number(self.summary, key.format(version)) for version in self.versions}

    @property
    def name(self) -> str:
        """What the run is called; "run" where nobody said."""
        return text(self.summary, "name") or "run"

    def core_usage(self, chip: str, version: str) -> list[Record]:
        """One record per core of `chip`; `version` is 'dense' or 'pruned'."""
        return records(table(table(self.summary, "core_usage"), chip), version)

    def core_limits(self, chip: str) -> Record:
        """What one core of `chip` holds."""
        return table(table(table(self.summary, "core_usage"), chip), "limits")

    @property
    def weights_left(self) -> float | None:
        """Non-zero weights after pruning: counted in the layers where these are known, else from the sparsity."""
        counts = [(number(layer, "weights"), number(layer, "zeros")) for layer in self.layers]
        if counts and all(w is not None and z is not None for w, z in counts):
            return sum((w or 0) - (z or 0) for w, z in counts)
        weights, sparsity = number(self.summary, "weights"), number(self.summary, "sparsity")
        return None if weights is None or sparsity is None else round(weights * (1 - sparsity))


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Read `summary.json` of a run folder, and `metrics.jsonl` where something was trained.

    Raises:
        InvalidFile: there is no summary, or a file cannot be read, is not JSON or holds something else than JSON
            objects.
    """
    summary_path, metrics_path = (Path(folder) / name for name in ("summary.json", "metrics.jsonl"))
    summary = _parse(_read(summary_path), str(summary_path))
    lines = _read(metrics_path).split("\n") if metrics_path.exists() else []
    steps = [_parse(line, f"{metrics_path}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    return Run(summary, tuple(steps))


def number(record: Record, key: str) -> float | None:
    """A finite number, or None."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer that no float holds
        return None


def text(record: Record, key: str) -> str | None:
    """A string that says something, or None."""
    value = record.get(key)
    return value if isinstance(value, str) and value.strip() else None


def table(record: Record, key: str) -> Record:
    """A JSON object, empty where there is none."""
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def records(record: Record, key: str) -> list[Record]:
    """The JSON objects of a list."""
    value = record.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidFile(
            f"no {path.name} in {path.parent}; name the folder of a finished run, or run `neuroprune demo` first"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path} cannot be read ({error}); restore it or repeat the run") from error


def _parse(content: str, where: str) -> Record:
    try:
        value = json.loads(content)
        # JSON can spell half a character (a lone surrogate), which no file in UTF-8 can hold.
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"broken JSON: {where}: {error}; restore the file or repeat the run") from error
    if not isinstance(value, dict):
        raise InvalidFile(f"not a JSON object: {where}; restore the file or repeat the run")
    return value
