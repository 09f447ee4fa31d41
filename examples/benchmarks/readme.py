"""`python -m examples.benchmarks.readme [--check]`: the figures of README and of results/README, from the results."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.benchmarks.common import RESULTS, ratio_text
from hw_targets.app.cli.tables import percent, quantity, ratio
from hw_targets.files.atomic import new_file

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    ROOT / "README.md",
    RESULTS / "README.md",
    RESULTS / "coverage_snntorch.md",
    ROOT / "docs" / "measured.md",
    ROOT / "docs" / "snntorch-to-chip.md",
    ROOT / "docs" / "training-loops.md",
)
DEMO = "demo.json"
HEAD = ("| measured | median | quartiles | goal | |", "|:--|--:|--:|--:|:--|")


class ReadmeError(ValueError):
    """A document or a result file is not as it has to be; the message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the documents, or with --check only say whether they are up to date."""
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if one is out of date")
    parser.add_argument("--documents", type=Path, nargs="+", default=DOCUMENTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    try:
        texts = {path: _read(path) for path in options.documents}
        changed = {path: new for path, text in texts.items() if (new := updated(text, options.results)) != text}
    except ReadmeError as error:
        print(error, file=sys.stderr)
        return 2
    for path, text in changed.items():
        if options.check:
            print(f"{path} is out of date; run: make figures", file=sys.stderr)
            continue
        with new_file(path, overwrite=True) as temporary:
            temporary.write_text(text)
    return 1 if options.check and changed else 0


def updated(text: str, results: Path) -> str:
    """A document with its generated parts made anew: all those whose markers it has.

    Raises:
        ReadmeError: a marker or a result is missing, or no such part is known.
    """
    for name in dict.fromkeys(re.findall(r"<!-- ([\w-]+):(?:begin|end) -->", text)):
        if name not in PARTS:
            raise ReadmeError(f"<!-- {name}:begin --> names no generated part; known are {', '.join(PARTS)}")
        text = _replace(text, name, PARTS[name](results))
    return text


def goals_table(results: Path) -> str:
    """The headline ratios of all benchmarks that have a goal, one row each, and where they were measured."""
    reports = _reports(results)
    rows = [_row(r) for report in reports for r in report["results"] if r["headline"] and r["goal"]]
    machines = dict.fromkeys(_machine(report) for report in reports)
    return "\n".join([*HEAD, *rows, "", *(f"- {machine}" for machine in machines)])


def bench_tables(results: Path) -> str:
    """Everything that every benchmark found, and how it was measured."""
    return "\n\n".join(_section(report) for report in _reports(results))


def _section(report: dict[str, Any]) -> str:
    rows = [_row(result) for result in report["results"]]
    notes = [*(f"Skipped: {name} ({reason})." for name, reason in report["skipped"].items()), _machine(report)]
    return "\n".join(
        [f"### {report['benchmark']}", "", report["method"], "", *HEAD, *rows, "", *(f"- {note}" for note in notes)]
    )


def _reports(results: Path) -> list[dict[str, Any]]:
    found = [_load(path) for path in sorted(results.glob("*.json")) if path.name != DEMO]
    reports = [report for report in found if "results" in report]  # tables of what is read have pages of their own
    if not reports:
        raise ReadmeError(f"{results} holds no benchmark results; run: make bench")
    return reports


def _row(result: dict[str, Any]) -> str:
    goal = result["goal"]["text"] if result["goal"] else ""
    spread = "" if result["count"] == 1 else f"{ratio_text(result['q1'])} – {ratio_text(result['q3'])}"
    median = ratio_text(result["median"])
    return f"| {result['label']} | {median} | {spread} | {goal} | {result['verdict'] or ''} |"


def _machine(report: dict[str, Any]) -> str:
    machine, versions = report["machine"], report["versions"]
    return (
        f"Measured on {report['date'][:10]}: {machine['cpu']}, {machine['cores']} cores, one torch thread,"
        f" {versions.get('machine', machine['platform'])}, Python {versions['python']}, torch {versions['torch']}."
    )


def demo_table(results: Path) -> str:
    """Dense against pruned, from a demo run's summary."""
    path = results / DEMO
    if not path.is_file():
        raise ReadmeError(f"{path} does not exist; run `make demo` and copy runs/demo/summary.json there")
    summary = _load(path)
    try:
        return "\n".join(["| | dense | pruned | ratio |", "|:--|--:|--:|--:|", *_demo_rows(summary)])
    except KeyError as error:
        raise ReadmeError(f"{path} is no demo summary: it lacks {error}; run `make demo` again") from error


def hard_reset_table(results: Path) -> str:
    """Ways from snnTorch to a chip that resets to zero."""
    from examples.benchmarks import hard_reset  # needs snnTorch, which the other parts do not

    path = results / "hard_reset.json"
    if not path.is_file():
        raise ReadmeError(f"{path} does not exist; run: python -m examples.benchmarks hard_reset")
    return hard_reset.markdown(_load(path)["values"])


def coverage_snntorch_tables(results: Path) -> str:
    """What of snnTorch's tutorials is read exactly."""
    from examples.benchmarks import coverage_snntorch  # needs snnTorch

    path = results / "coverage_snntorch.json"
    if not path.is_file():
        raise ReadmeError(f"{path} does not exist; run: python -m examples.benchmarks coverage_snntorch")
    return coverage_snntorch.markdown(_load(path)["values"])


def trainers_table(results: Path) -> str:
    """Which training loops are exact, and which are refused."""
    from examples.benchmarks import trainers

    path = results / "trainers.json"
    if not path.is_file():
        raise ReadmeError(f"{path} does not exist; run: python -m examples.benchmarks trainers")
    return trainers.markdown(_load(path))


def costs_table(results: Path) -> str:
    """What costs and rates save at equal accuracy."""
    from examples.benchmarks import costs

    path = results / "costs.json"
    if not path.is_file():
        raise ReadmeError(f"{path} does not exist; run: python -m examples.benchmarks costs")
    return costs.markdown(_load(path)["values"])


def frontier_tables(results: Path) -> str:
    """Accuracy against sparsity, method by method: of the full runs, or of the quick ones where there are none."""
    from examples.benchmarks.frontier import table  # needs SpikingJelly, which the other parts do not

    return _frontier(results, table.markdown, "frontier.jsonl", "frontier_quick.jsonl")


def frontier_adamw(results: Path) -> str:
    """The same with AdamW."""
    from examples.benchmarks.frontier import table

    return _frontier(results, table.markdown, "frontier_adamw.jsonl")


def frontier_adamw_overview(results: Path) -> str:
    """Every method's distance from the best with AdamW."""
    from examples.benchmarks.frontier import table

    return _frontier(results, table.overview, "frontier_adamw.jsonl")


def frontier_overview(results: Path) -> str:
    """Every method's distance from the best, over all cells."""
    from examples.benchmarks.frontier import table

    return _frontier(results, table.overview, "frontier.jsonl", "frontier_quick.jsonl")


def _frontier(results: Path, build: Callable[[Any], str], *names: str) -> str:
    """Of the first of these files that is there."""
    from examples.benchmarks.frontier import store

    path = next((results / name for name in names if (results / name).is_file()), None)
    if path is None:
        raise ReadmeError(f"{results} lacks {' and '.join(names)}; run: make frontier")
    try:
        return build(store.read(path))
    except store.ResultsError as error:
        raise ReadmeError(str(error)) from error


def _demo_rows(summary: dict[str, Any]) -> list[str]:
    weights, kept = summary["weights"], summary["weights"] * (1 - summary["sparsity"])
    energy = f"energy per image, {summary['energy_chip']}"
    rows = [
        ("accuracy", percent(summary["dense_accuracy"]), percent(summary["pruned_accuracy"]), ""),
        ("accuracy in chip integers", "", percent(summary["chip_accuracy"]), ""),
        ("non-zero weights", quantity(weights), quantity(kept), ratio(weights, kept)),
        _compared("synaptic operations per image", summary["synops_dense"], summary["synops_pruned"]),
        _compared(energy, summary["energy_dense_j"], summary["energy_pruned_j"], "J"),
    ]
    rows += [_compared(f"cores, {chip}", cores["dense"], cores["pruned"]) for chip, cores in summary["cores"].items()]
    if summary["lava_samples"]:
        compared = f"{summary['lava_spike_differences']} of {summary['lava_spikes_compared']}"
        rows.append(("spikes that differ from Lava's", "", compared, ""))
    return ["| " + " | ".join(row) + " |" for row in rows]


def _compared(title: str, dense: float | None, pruned: float | None, unit: str = "") -> tuple[str, str, str, str]:
    return title, quantity(dense, unit), quantity(pruned, unit), ratio(dense, pruned)


def _replace(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    found, replaced = re.compile(f"{begin}.*?{end}", re.DOTALL), f"{begin}\n{content}\n{end}"
    if len(found.findall(text)) != 1 or text.count(begin) != 1 or text.count(end) != 1:
        raise ReadmeError(f"expected exactly one line {begin} followed by one line {end}; add them where they belong")
    return found.sub(lambda _: replaced, text)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ReadmeError(f"{path} cannot be read: {error.strerror}") from error


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ReadmeError(f"{path} is not valid JSON ({error}); make it again") from error
    return content


PARTS: Mapping[str, Callable[[Path], str]] = {
    "demo": demo_table,
    "goals": goals_table,
    "bench": bench_tables,
    "frontier": frontier_tables,
    "frontier-adamw": frontier_adamw,
    "frontier-adamw-overview": frontier_adamw_overview,
    "hard-reset": hard_reset_table,
    "coverage-snntorch": coverage_snntorch_tables,
    "frontier-overview": frontier_overview,
    "trainers": trainers_table,
    "costs": costs_table,
}


if __name__ == "__main__":
    sys.exit(main())
