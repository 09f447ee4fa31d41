"""Benchmarks: statistics, result files, and README's generated figures."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.benchmarks import __main__ as command
from examples.benchmarks import chip_accuracy, readme
from examples.benchmarks.common import (
    RESULTS,
    Goal,
    Report,
    Result,
    Samples,
    Summary,
    interleave,
    paired_ratios,
    summarize,
)

EMPTY = (
    "# Title\n\n<!-- goals:begin -->\nold\n<!-- goals:end -->\n\n"
    "Text.\n\n<!-- demo:begin -->\n<!-- demo:end -->\nEnd.\n"
)
DEMO: dict[str, Any] = {
    "weights": 1000,
    "sparsity": 0.9,
    "dense_accuracy": 0.91,
    "pruned_accuracy": 0.905,
    "chip_accuracy": 0.9,
    "synops_dense": 3e6,
    "synops_pruned": 1e6,
    "energy_chip": "loihi1",
    "energy_dense_j": 4e-5,
    "energy_pruned_j": 1e-5,
    "cores": {"loihi1": {"dense": 40, "pruned": 10}},
    "lava_samples": 5,
    "lava_spikes_compared": 1234,
    "lava_spike_differences": 0,
}


def _report() -> Report:
    report = Report("example", False, {"rounds": 5}, "how it was measured")
    report.samples["case"] = Samples({"a": [1.0, 2.0, 3.0, 4.0, 5.0], "b": [2.0, 2.0, 2.0, 2.0, 2.0]}, {})
    report.add_ratio("case", "a", "b", "a / b", goal=Goal(1.6), headline=True)
    report.add_ratio("case", "b", "a", "b / a")
    return report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A README with empty parts beside complete results."""
    results = tmp_path / "results"
    _report().write(results)
    (results / "demo.json").write_text(json.dumps(DEMO))
    (tmp_path / "README.md").write_text(EMPTY)
    return tmp_path


def _readme(folder: Path, *options: str) -> int:
    return readme.main(["--documents", str(folder / "README.md"), "--results", str(folder / "results"), *options])


def test_summary_of_known_numbers() -> None:
    assert summarize([5.0, 1.0, 3.0, 2.0, 4.0]) == Summary(median=3.0, q1=2.0, q3=4.0, count=5)
    assert summarize([1.0, 2.0]) == Summary(1.5, 1.25, 1.75, 2)
    assert summarize([7.0]) == Summary(7.0, 7.0, 7.0, 1)


def test_summary_equals_numpys_quantiles() -> None:
    for count in range(2, 40):
        values = [random.Random(count).gauss(1, 1) for _ in range(count)]
        found = summarize(values)
        np.testing.assert_allclose([found.q1, found.median, found.q3], np.quantile(values, [0.25, 0.5, 0.75]))


def test_nothing_to_summarize_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        summarize([])


def test_ratios_are_paired_by_round() -> None:
    # A machine that is twice as slow in every second round changes no paired ratio.
    assert paired_ratios([1.1, 2.2, 1.1], [1.0, 2.0, 1.0]) == pytest.approx([1.1, 1.1, 1.1])
    with pytest.raises(ValueError, match="2 values do not pair with 1"):
        paired_ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        (Goal(1.03), 1.03, "met"),
        (Goal(1.03), 1.04, "missed"),
        (Goal(50, at_least=True), 50.0, "met"),
        (Goal(50, at_least=True), 49.0, "missed"),
        (None, 3.0, None),
    ],
)
def test_verdict(goal: Goal | None, value: float, verdict: str | None) -> None:
    assert Result("name", "label", summarize([value]), goal).verdict == verdict


def test_every_round_runs_every_variant_once_in_changing_order() -> None:
    calls: list[str] = []
    variants = {name: lambda name=name: calls.append(name) for name in "abc"}
    samples = interleave(variants, 8, title="test", warmup=2)
    rounds = [tuple(calls[i : i + 3]) for i in range(0, len(calls), 3)]
    assert len(rounds) == 10
    assert all(set(order) == set("abc") for order in rounds)
    assert len(set(rounds)) > 2
    assert {name: len(values) for name, values in samples.wall_s.items()} == {"a": 8, "b": 8, "c": 8}
    assert samples.cpu_s.keys() == samples.wall_s.keys()


def test_a_variant_with_its_own_clock_is_believed() -> None:
    samples = interleave({"elsewhere": lambda: 123.0}, 3, title="test")
    assert samples.wall_s == {"elsewhere": [123.0] * 3}
    assert samples.cpu_s == {}


def test_result_file(tmp_path: Path) -> None:
    content = json.loads(_report().write(tmp_path / "results").read_text())
    assert set(content) == {
        "benchmark",
        "date",
        "commit",
        "quick",
        "machine",
        "versions",
        "method",
        "parameters",
        "results",
        "values",
        "skipped",
        "samples",
    }
    assert set(content["machine"]) == {"cpu", "cores", "platform", "torch_threads", "load_average"}
    assert {"python", "torch", "numpy"} <= set(content["versions"])
    assert content["samples"] == {"case": {"wall_s": {"a": [1, 2, 3, 4, 5], "b": [2] * 5}, "cpu_s": {}}}
    first, second = content["results"]
    assert first == {
        "name": "case/a",
        "label": "a / b",
        "median": 1.5,
        "q1": 1.0,
        "q3": 2.0,
        "iqr": 1.0,
        "count": 5,
        "goal": {"limit": 1.6, "at_least": False, "text": "≤ 1.6"},
        "verdict": "met",
        "headline": True,
        "cpu": None,
    }
    assert (second["goal"], second["verdict"]) == (None, None)


def test_committed_results_have_the_schema_of_a_report() -> None:
    expected = set(_report().as_json())
    for name in command.BENCHMARKS:
        path = RESULTS / f"{name}.json"
        if path.exists():
            content = json.loads(path.read_text())
            assert set(content) == expected, path
            assert content["benchmark"] == name
            assert not content["quick"], f"{path} is of a --quick run"


def test_table_of_a_report() -> None:
    report = _report()
    report.skipped["peer"] = "not importable"
    text = command.describe(report)
    assert "≤ 1.6" in text
    assert "met" in text
    assert "skipped: peer (not importable)" in text


def test_all_goals_of_several_reports_stand_in_one_table() -> None:
    other = _report()
    other.add_ratio("case", "a", "b", "too slow", goal=Goal(1.0))
    first, *rows = command.goals([_report(), other]).splitlines()
    assert first == "2 of 3 goals are met"
    assert [sum(label in row for row in rows) for label in ("a / b", "too slow", "b / a")] == [2, 1, 0]
    assert [row.split()[-1] for row in rows[-3:]] == ["met", "met", "missed"]


def test_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["nonsense"])
    assert f"known are {', '.join(command.BENCHMARKS)}" in capsys.readouterr().err


def test_readme_is_generated_and_then_up_to_date(folder: Path) -> None:
    assert _readme(folder, "--check") == 1
    assert (folder / "README.md").read_text() == EMPTY
    assert _readme(folder) == 0
    text = (folder / "README.md").read_text()
    assert "| a / b | 1.500 | 1.000 – 2.000 | ≤ 1.6 | met |" in text
    assert "| b / a |" not in text
    assert "| non-zero weights | 1 k | 100 | 10.0× |" in text
    assert "| synaptic operations per image | 3 M | 1 M | 3.0× |" in text
    assert "| cores, loihi1 | 40 | 10 | 4.0× |" in text
    assert "one torch thread" in text
    assert "old" not in text
    assert text.startswith("# Title\n\n<!-- goals:begin -->\n|")
    assert text.endswith("<!-- demo:end -->\nEnd.\n")
    assert _readme(folder, "--check") == 0


def test_the_page_of_results_has_what_has_no_goal_too(folder: Path) -> None:
    (folder / "README.md").write_text("<!-- bench:begin -->\n<!-- bench:end -->\n")
    assert _readme(folder) == 0
    text = (folder / "README.md").read_text()
    assert "### example\n\nhow it was measured\n" in text
    assert "| a / b | 1.500 | 1.000 – 2.000 | ≤ 1.6 | met |" in text
    assert "| b / a | 0.667 | 0.500 – 1.000 |  |  |" in text
    assert _readme(folder, "--check") == 0


def test_new_results_make_readme_out_of_date(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _readme(folder)
    (folder / "results" / "demo.json").write_text(json.dumps({**DEMO, "pruned_accuracy": 0.5}))
    assert _readme(folder, "--check") == 1
    assert "out of date; run: make figures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "README.md").write_text(EMPTY.replace("<!-- demo:end -->", "")), "<!-- demo:end -->"),
        (lambda f: (f / "README.md").write_text(EMPTY + EMPTY), "exactly one line <!-- goals:begin -->"),
        (lambda f: (f / "README.md").write_text("<!-- x:begin -->"), "<!-- x:begin --> names no generated part"),
        (lambda f: (f / "README.md").unlink(), "README.md cannot be read"),
        (lambda f: (f / "results" / "demo.json").unlink(), "run `make demo` and copy"),
        (lambda f: (f / "results" / "example.json").unlink(), "run: make bench"),
        (lambda f: (f / "results" / "demo.json").write_text("{"), "is not valid JSON"),
        (lambda f: (f / "results" / "demo.json").write_text("{}"), "it lacks 'weights'"),
    ],
)
def test_what_is_missing_is_named(folder: Path, capsys: pytest.CaptureFixture[str], damage: Any, message: str) -> None:
    damage(folder)
    assert _readme(folder) == 2
    assert message in capsys.readouterr().err


def test_lost_accuracy_is_summed_up_over_seeds() -> None:
    """Losses in points, their mean and deviation; the goal is for calibrated integers on test images alone."""
    report, outcomes = Report("chip_accuracy", False, {}, ""), []
    for seed, right in enumerate((0.870, 0.868, 0.875)):
        chip = {kind: {"validation": right, "test": right} for kind in chip_accuracy.KINDS}
        real = {"validation": 0.88, "test": 0.872}
        outcomes.append(chip_accuracy.Outcome(0.9, seed, 0.901, real, chip, chip, {}))
    chip_accuracy.sum_up(report, outcomes)
    found = {result.name: result for result in report.results}
    assert len(found) == 4
    assert found["0.9/calibrated/test"].summary.median == pytest.approx(0.2)
    assert (found["0.9/calibrated/test"].verdict, found["0.9/nearest/test"].verdict) == ("met", None)
    loss = report.values["0.9/calibrated/test"]["loss"]
    assert loss["values"] == pytest.approx([0.2, 0.4, -0.3])
    assert (loss["mean"], loss["sd"]) == pytest.approx((0.1, 0.13**0.5))
    assert json.dumps(report.as_json())


@pytest.mark.slow
@pytest.mark.parametrize("name", command.BENCHMARKS)
def test_quick_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([name, "--quick", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / f"{name}.json").read_text())
    assert content["quick"]
    assert content["results"] or content["skipped"]
    assert all(len(values) > 1 for case in content["samples"].values() for values in case["wall_s"].values())
    assert name in capsys.readouterr().out
