"""What all benchmarks share: interleaved timing, paired ratios, facts about the machine, result files."""

from __future__ import annotations

import gc
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias

import torch

from hw_targets.app.versions import commit, versions
from hw_targets.files.atomic import new_file
from neuroprune.training.progress import progress_bar

RESULTS = Path(__file__).parent / "results"
#: Something to time. It returns None, or, where it has its own clock (another process), the seconds it took.
Action: TypeAlias = Callable[[], float | None]


@dataclass(frozen=True)
class Goal:
    """A bound on a ratio: at most `limit`, or at least."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether a value keeps to the bound."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Summary:
    """Median and quartiles of `count` values."""

    median: float
    q1: float
    q3: float
    count: int


def summarize(values: Sequence[float]) -> Summary:
    """Median and quartiles (linear interpolation between values, as NumPy's).

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("summarize: needs at least one value, got none")
    if len(values) == 1:
        return Summary(values[0], values[0], values[0], 1)
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(median, q1, q3, len(values))


def paired_ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """a / b of values that were measured in the same round.

    Raises:
        ValueError: the two have different lengths.
    """
    if len(numerators) != len(denominators):
        raise ValueError(f"paired_ratios: {len(numerators)} values do not pair with {len(denominators)}")
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


@dataclass(frozen=True)
class Result:
    """One measured ratio. `cpu`: the same of CPU times, which other work on the machine disturbs less.

    `headline`: it belongs in README.
    """

    name: str
    label: str
    summary: Summary
    goal: Goal | None = None
    headline: bool = False
    cpu: Summary | None = None

    @property
    def verdict(self) -> str | None:
        """'met' or 'missed', by the median; None without a goal."""
        if self.goal is None:
            return None
        return "met" if self.goal.met(self.summary.median) else "missed"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        cpu = None if self.cpu is None else asdict(self.cpu)
        goal = None if self.goal is None else {**asdict(self.goal), "text": str(self.goal)}
        values = {
            "name": self.name,
            "label": self.label,
            **asdict(self.summary),
            "iqr": self.summary.q3 - self.summary.q1,
        }
        return {**values, "goal": goal, "verdict": self.verdict, "headline": self.headline, "cpu": cpu}


@dataclass
class Samples:
    """Seconds per variant, one value per round: wall clock and, for work done in this process, its CPU time."""

    wall_s: dict[str, list[float]] = field(default_factory=dict)
    cpu_s: dict[str, list[float]] = field(default_factory=dict)


def interleave(variants: Mapping[str, Action], rounds: int, *, title: str, warmup: int = 2, seed: int = 0) -> Samples:
    """Time every variant once per round, in an order that is drawn anew for each round (after untimed warm-up rounds).

    Slow drifts of the machine then hit all variants of a round alike, and cancel in ratios paired by round.
    """
    samples = Samples({name: [] for name in variants}, {name: [] for name in variants})
    order, shuffle = list(variants), random.Random(seed).shuffle
    with progress_bar(warmup + rounds, title) as bar:
        for index in range(warmup + rounds):
            shuffle(order)
            gc.collect()
            for name in order:
                wall, cpu = _timed(variants[name])
                if index >= warmup:
                    samples.wall_s[name].append(wall)
                    if cpu is not None:
                        samples.cpu_s[name].append(cpu)
            bar.update()
    samples.cpu_s = {name: values for name, values in samples.cpu_s.items() if values}
    return samples


def _timed(action: Action) -> tuple[float, float | None]:
    """Wall and CPU seconds of one call, the garbage collector off."""
    gc.disable()
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        own = action()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    finally:
        gc.enable()
    return (wall, cpu) if own is None else (own, None)


@contextmanager
def one_thread() -> Any:
    """One torch thread, and a fixed seed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Report:
    """All that one benchmark found.

    `values` are plain numbers that are no ratios of times (bytes, counts), `skipped` maps what could not be measured to
    the reason, `samples` raw seconds by case.
    """

    benchmark: str
    quick: bool
    parameters: dict[str, Any]
    method: str
    results: list[Result] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    samples: dict[str, Samples] = field(default_factory=dict)

    def add_ratio(
        self, case: str, variant: str, base: str, label: str, *, goal: Goal | None = None, headline: bool = False
    ) -> None:
        """Record the ratio of two timed variants of a case."""
        samples = self.samples[case]
        summary = summarize(paired_ratios(samples.wall_s[variant], samples.wall_s[base]))
        cpu = None
        if variant in samples.cpu_s and base in samples.cpu_s:
            cpu = summarize(paired_ratios(samples.cpu_s[variant], samples.cpu_s[base]))
        self.results.append(Result(f"{case}/{variant}", label, summary, goal, headline, cpu))

    def as_json(self) -> dict[str, Any]:
        """Everything, with where and when it was measured."""
        return {
            "benchmark": self.benchmark,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "commit": commit(),
            "quick": self.quick,
            "machine": machine(),
            "versions": versions(),
            "method": self.method,
            "parameters": self.parameters,
            "results": [result.as_json() for result in self.results],
            "values": self.values,
            "skipped": self.skipped,
            "samples": {case: asdict(samples) for case, samples in self.samples.items()},
        }

    def write(self, folder: Path) -> Path:
        """Write `folder`/`benchmark`.json, replacing an older one."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}.json"
        with new_file(path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n")
        return path


def ratio_text(value: float) -> str:
    """Three decimals below 10, one below 100, none above."""
    return f"{value:.{3 if value < 10 else 1 if value < 100 else 0}f}"


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "torch_threads": 1,
        "load_average": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
