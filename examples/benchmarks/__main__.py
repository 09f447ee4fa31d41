"""`python -m examples.benchmarks [names] [--quick]`: measure, print tables with verdicts, write results/*.json.

Without names all that is timed is measured, and the last table has every goal.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from examples.benchmarks.common import RESULTS, Report, ratio_text
from hw_targets.app.cli.tables import table

#: Modules with `run(quick=...) → Report`: what takes time and memory, an hour in all,
TIMED = (
    "training_step",
    "method_steps",
    "map_steps",
    "counting",
    "emulation",
    "sanafe",
    "placement",
    "deployment",
    "xylo",
)
#: and studies of accuracy and truth, which take many.
STUDIES = (
    "target_sparsity",
    "optimizers",
    "hard_reset",
    "coverage_snntorch",
    "costs",
    "chip_truth",
    "chip_accuracy",
    "strangers_files",
    "trainers",
)
BENCHMARKS = TIMED + STUDIES
#: Those that measure no times, and whose `run` takes `jobs`.
PARALLEL = ("costs",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or all that are timed. A missed goal is reported, and is no error."""
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)} (default: {', '.join(TIMED)})"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: few rounds, small batches")
    parser.add_argument("--jobs", type=int, default=1, help=f"processes, of {', '.join(PARALLEL)} (default: 1)")
    parser.add_argument("--out", type=Path, help=f"folder for the results (default: {RESULTS}; quick: runs/bench)")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"unknown benchmarks {sorted(unknown)}; known are {', '.join(BENCHMARKS)}")
    folder = options.out or (Path("runs/bench") if options.quick else RESULTS)
    reports: list[Report] = []
    for name in options.names or TIMED:
        begin = time.monotonic()
        more = {"jobs": options.jobs} if name in PARALLEL else {}
        report: Report = import_module(f"examples.benchmarks.{name}").run(quick=options.quick, **more)
        path = report.write(folder)
        print(f"\n{name}\n{describe(report)}\n→ {path} ({time.monotonic() - begin:.0f} s)", flush=True)
        reports.append(report)
    if len(reports) > 1:
        print(f"\n{goals(reports)}")
    return 0


def goals(reports: Sequence[Report]) -> str:
    """All results that have a goal, in one table, with how many of them are met above it."""
    judged = [(report.benchmark, result) for report in reports for result in report.results if result.goal is not None]
    met = sum(str(result.verdict) == "met" for _, result in judged)
    rows = [
        [benchmark, result.label, ratio_text(result.summary.median), str(result.goal), str(result.verdict)]
        for benchmark, result in judged
    ]
    return f"{met} of {len(judged)} goals are met\n{table(rows, ['', '', 'median', 'goal', 'verdict'])}"


def describe(report: Report) -> str:
    """A report as a plain-text table."""
    rows = []
    for result in report.results:
        s = result.summary
        goal, verdict = ("", "") if result.goal is None else (str(result.goal), str(result.verdict))
        spread = "" if s.count == 1 else f"{ratio_text(s.q1)} – {ratio_text(s.q3)}"
        cpu = "" if result.cpu is None else ratio_text(result.cpu.median)
        rows.append([result.label, ratio_text(s.median), spread, str(s.count), cpu, goal, verdict])
    lines = [table(rows, ["", "median", "quartiles", "rounds", "CPU time", "goal", "verdict"])]
    return "\n".join([*lines, *(f"skipped: {what} ({why})" for what, why in report.skipped.items())])


if __name__ == "__main__":
    sys.exit(main())
