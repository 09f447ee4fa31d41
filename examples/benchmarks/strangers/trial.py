"""One changed file, one reader: a value, a refusal of the reader's own, or a fault."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from examples.benchmarks.strangers.readers import Reader

#: Bounds of one call, in time of the processor: other work on the machine does not count.
SECONDS, BYTES = 5.0, 1 << 30
PEAK, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Trials:
    """What many calls gave: counts by reader and outcome, the slowest and the largest, and every fault."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    largest: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Trials) -> None:
        """Those of another process."""
        self.outcomes.update(other.outcomes)
        self.slowest, self.largest = max(self.slowest, other.slowest), max(self.largest, other.largest)
        self.faults += other.faults

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Trials:
        """What `as_json` gave."""
        return cls(Counter(values["outcomes"]), values["slowest_s"], values["largest_bytes"], list(values["faults"]))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        counts = dict(sorted(self.outcomes.items()))
        return {
            "files": sum(counts.values()),
            "outcomes": counts,
            "slowest_s": round(self.slowest, 3),
            "largest_bytes": self.largest,
            "faults": self.faults,
        }


def trial(seed: int, found: Mapping[str, Reader], folder: Path, trials: Trials) -> None:
    """The file of one seed, changed and read."""
    rng = Random(seed)
    # The readers of placements, one for each network, count as one.
    group = rng.choice(sorted({name.split()[0].rstrip(",") for name in found}))
    name = rng.choice(sorted(n for n in found if n.split()[0].rstrip(",") == group))
    reader = found[name]
    key = rng.choice(sorted(reader.good))
    path = folder / f"changed{reader.suffix}"
    path.write_bytes(reader.change(reader.good[key], path, rng))
    before = _cleared()
    begin, fault = time.process_time(), ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader.read(path)
            outcome = "value"
        except reader.errors:
            outcome = "refused"
        except BaseException as error:  # the reader's fault, of whatever class
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome, fault = "fault", f"{type(error).__name__}: {error}"
    seconds, grown = time.process_time() - begin, max(0, _peak() - before)
    if seconds > SECONDS:
        outcome, fault = "fault", f"{fault} took {seconds:.1f} s"
    if grown > BYTES:
        outcome, fault = "fault", f"{fault} took {grown / (1 << 30):.1f} GiB"
    trials.outcomes[f"{group}: {outcome}"] += 1
    trials.slowest, trials.largest = max(trials.slowest, seconds), max(trials.largest, grown)
    if fault:
        trials.faults.append({"seed": seed, "reader": name, "file": key, "fault": fault[:400]})


def _cleared() -> int:
    """Bytes in use, from where the peak is counted; 0 where the system does not say."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return 0
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    try:
        text = PEAK.read_text()
    except OSError:
        return 0
    _, _, rest = text.partition(f"{key}:")
    return 1024 * int(rest.split()[0]) if rest else 0
