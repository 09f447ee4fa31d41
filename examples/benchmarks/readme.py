"""`python -m examples.benchmarks.readme [--check]`: README's figures, from results/*.json."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from examples.benchmarks.common import RESULTS, ratio_text
from hw_targets.cli.tables import percent, quantity, ratio
from hw_targets.files import new_file

README = Path(__file__).parents[2] / "README.md"
DEMO = "demo.json"


class ReadmeError(ValueError):
    """README or a result file is not as it has to be; the message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite README, or with --check only say whether it is up to date."""
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if README is out of date")
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    try:
        before = _read(options.readme)
        after = updated(before, options.results)
    except ReadmeError as error:
        print(error, file=sys.stderr)
        return 2
    if before == after:
        return 0
    if options.check:
        print(f"{options.readme} is out of date; run: make figures", file=sys.stderr)
        return 1
    with new_file(options.readme, overwrite=True) as temporary:
        temporary.write_text(after)
    return 0


def updated(text: str, results: Path) -> str:
    """README's text with its generated parts made anew; the frontier's is optional.

    Raises:
        ReadmeError: a marker or a result is missing.
    """
    parts: dict[str, Callable[[Path], str]] = {"bench": bench_table, "demo": demo_table}
    if "<!-- frontier:begin -->" in text:
        parts["frontier"] = frontier_table
    for name, build in parts.items():
        text = _replace(text, name, build(results))
    return text


def bench_table(results: Path) -> str:
    """All headline ratios of all benchmarks, one row each, and where they were measured."""
    reports = [_load(path) for path in sorted(results.glob("*.json")) if path.name != DEMO]
    if not reports:
        raise ReadmeError(f"{results} holds no benchmark results; run: make bench")
    lines = ["| measured | median | quartiles | goal | |", "|:--|--:|--:|--:|:--|"]
    for report in reports:
        lines += [_row(result) for result in report["results"] if result["headline"]]
    machines = dict.fromkeys(_machine(report) for report in reports)
    return "\n".join([*lines, "", *machines])


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


def frontier_table(results: Path) -> str:
    """Accuracy against sparsity, method by method: of the full runs, or of the quick ones where there are none."""
    from examples.benchmarks.frontier import store, table  # needs SpikingJelly, which the other parts do not

    paths = [results / name for name in ("frontier.jsonl", "frontier_quick.jsonl")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ReadmeError(f"{paths[0]} and {paths[1].name} do not exist; run: make frontier")
    try:
        return table.markdown(store.read(path))
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
        raise ReadmeError(
            f"README needs exactly one line {begin} followed by one line {end}; add them where they belong"
        )
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


if __name__ == "__main__":
    sys.exit(main())
