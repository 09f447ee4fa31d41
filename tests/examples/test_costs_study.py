"""The study of costs: what is chosen at equal accuracy, and that finished runs are not done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from examples.benchmarks import cost_runs, costs
from examples.benchmarks.cost_curves import at_equal_accuracy, cells, markdown, plot
from examples.benchmarks.cost_runs import Unit


class Inline(Executor):
    """Runs what it is given at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def runs(method: str, target: float, validation: list[float], energy: float) -> list[dict[str, Any]]:
    """One record a seed; test accuracies a point below, seeds cost ever more, other costs follow energy."""
    return [
        {
            "model": "sew", "method": method, "target": target, "seed": seed, "validation": value, "test": value - 1,
            "energy": energy * (1 + seed), "SynOps": 10 * energy, "cores": 2 * energy, "latency": energy,
        }
        for seed, value in enumerate(validation)
    ]  # fmt: skip


RECORDS = [
    *runs("LATS", 0.8, [80.0, 82.0], 8.0),
    *runs("LATS", 0.9, [80.8, 80.8], 6.0),  # within 0.3 of the one at 80 %, and cheaper
    *runs("LATS", 0.95, [75.0, 75.0], 2.0),
    *runs("other", 0.8, [90.0, 90.0], 4.0),
    *runs("other", 0.9, [80.5, 81.0], 2.0),  # mean 80.75
    *runs("other", 0.95, [80.6, 80.6], 1.0),  # below 80.7
]


def test_of_each_method_the_cheapest_cell_within_the_points_is_compared() -> None:
    found = at_equal_accuracy(RECORDS, "sew", "other", 0.8)
    assert found is not None
    assert (found.reference.target, found.found.target) == (0.9, 0.9)
    assert found.ratios("energy") == [3.0, 3.0]
    assert found.ratios("cores") == [3.0, 3.0]
    assert found.points() == pytest.approx([-0.3, 0.2])
    lower = at_equal_accuracy(RECORDS, "sew", "other", 0.95)
    assert lower is not None
    assert (lower.found.target, lower.ratios("SynOps")) == (0.95, [2.0, 2.0])


def test_a_method_that_never_gets_there_is_not_compared() -> None:
    poor = [*RECORDS, *runs("poor", 0.8, [80.6, 80.6], 1.0)]
    assert at_equal_accuracy(poor, "sew", "poor", 0.8) is None
    assert at_equal_accuracy(poor, "sew", "poor", 0.8, within=0.5) is not None
    assert at_equal_accuracy(poor, "conv", "other", 0.8) is None


def test_cells_of_fewer_seeds_are_left_out() -> None:
    some = [r for r in RECORDS if (r["method"], r["target"], r["seed"]) != ("other", 0.9, 1)]
    assert ("other", 0.9) not in {(cell.method, cell.target) for cell in cells(some, "sew")}
    assert len(cells(RECORDS, "sew")) == 6


def test_the_table_says_how_many_times_less_and_where_never() -> None:
    poor = [{**run, "method": "poor", "validation": 10.0} for run in runs("other", 0.8, [1.0, 1.0], 4.0)]
    lines = markdown([*RECORDS, *poor], (0.8,), within=0.3).splitlines()
    assert lines[2].startswith("| sew | 80 % | other | 90 % | 3.0 ± 0.0 | 3.0 ± 0.0 | 3.0 ± 0.0 | 3.0 ± 0.0 | -0.")
    assert lines[3].startswith("| sew | 80 % | poor | never so accurate |")


def test_a_figure_is_drawn(tmp_path: Path) -> None:
    plot(RECORDS, tmp_path / "costs.png")
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


def test_finished_runs_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted study goes on; a setting that has changed makes other runs."""
    done: list[Unit] = []

    def work(unit: Unit) -> dict[str, Any]:
        done.append(unit)
        return {
            **asdict(unit),
            **runs(unit.method, unit.target, [80.0], 1.0)[0],
            "model": unit.model,
            "seed": unit.seed,
        }

    @contextmanager
    def inline(_: int) -> Iterator[Executor]:
        yield Inline()

    monkeypatch.setattr(costs, "run_unit", work)
    monkeypatch.setattr(costs, "processes", inline)
    monkeypatch.chdir(tmp_path)
    report = costs.run(quick=True)
    assert {(unit.method, unit.target) for unit in done} == {
        (m, 0.0 if m == "dense" else 0.9) for m in cost_runs.METHODS
    }
    found = {result.name: result.summary.median for result in report.results}
    assert found["conv, prune_to, all against LATS at 90 %/cores"] == 1.0
    costs.run(quick=True)
    assert len(done) == len(cost_runs.METHODS)
    monkeypatch.setitem(cost_runs.TASKS, "conv", replace(cost_runs.TASKS["conv"], steps=301))
    costs.run(quick=True)
    assert len(done) == 2 * len(cost_runs.METHODS)
