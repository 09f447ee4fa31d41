"""Every reader, given files as strangers may send them: a value, or an error of its own, soon and in little memory.

Good files of each kind (netx, NIR, placements, chips, recipes, weights, summaries and metrics of runs) are changed in
their structure and in their bytes, each from a seed of its own. A fault is an error of another class, a call of more
than 5 s, or one that takes more than 1 GiB. One process after the other reads a few thousand, so that a crash of a
library is found, too.

    python -m examples.benchmarks.strangers_files --count 100000 --jobs 2        # from seed 0 on
    python -m examples.benchmarks.strangers_files --count 100000 --go-on         # the next ones, counted with those
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from examples.benchmarks.common import RESULTS, Goal, Report, Result, Summary, one_thread
from examples.benchmarks.strangers.readers import readers
from examples.benchmarks.strangers.trial import Trials, trial
from hw_targets.app.versions import commit
from neuroprune.training.progress import progress_bar

#: Files of a full and of a quick run, and of one process.
FULL, QUICK, BATCH = 1_000_000, 400, 5_000


def run(*, quick: bool) -> Report:
    """As many files as the size asks for."""
    return report_of(QUICK if quick else FULL, 0, 1, quick=quick)


def report_of(count: int, first: int, jobs: int, *, quick: bool, earlier: dict[str, Any] | None = None) -> Report:
    """`count` files from the seed `first` on, counted together with those of an earlier report."""
    before = earlier["parameters"]["files"] if earlier else 0
    parameters = {"files": before + count, "first_seed": first - before}
    report = Report("strangers_files", quick, parameters, str(__doc__).strip())
    trials = Trials.of_json(earlier["values"]["trials"]) if earlier else Trials()
    trials.add(many(count, first, jobs))
    report.values["trials"] = trials.as_json()
    report.values["runs"] = earlier["values"]["runs"] if earlier else []
    report.values["runs"] += [{"first_seed": first, "files": count, "commit": commit()}]
    share = len(trials.faults) / (before + count)
    goal = Goal(0.0)
    label = f"faults / {before + count:,} files"
    report.results.append(Result("faults", label, Summary(share, share, share, 1), goal))
    return report


def many(count: int, first: int, jobs: int) -> Trials:
    """The files of `count` seeds, in processes of `BATCH` each."""
    total = Trials()
    starts = list(range(first, first + count, BATCH))
    sizes = [min(BATCH, first + count - start) for start in starts]
    with progress_bar(count, "files") as bar:
        for begin in range(0, len(starts), jobs):
            # New processes each time: what a library leaks is not counted, and what it crashes is found.
            with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
                chosen = list(zip(starts, sizes, strict=True))[begin : begin + jobs]
                waiting = [(start, size, pool.submit(some, start, size)) for start, size in chosen]
                for start, size, result in waiting:
                    try:
                        total.add(result.result())
                    except BrokenProcessPool:
                        total.faults.append({"seed": start, "fault": f"a process ended within {size} seeds from here"})
                    bar.update(size)
    return total


def some(first: int, count: int) -> Trials:
    """The files of some seeds, in this process."""
    trials = Trials()
    with tempfile.TemporaryDirectory() as folder, one_thread():
        found = readers(Path(folder) / "good")
        for seed in range(first, first + count):
            trial(seed, found, Path(folder), trials)
    return trials


def main() -> None:
    """`python -m examples.benchmarks.strangers_files --count 100000 --jobs 2`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=FULL, help="files (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--go-on", action="store_true", help="add to the results that are there, from their last seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results (default: %(default)s)")
    options = parser.parse_args()
    first, earlier = options.first, None
    if options.go_on:
        earlier = json.loads((options.out / "strangers_files.json").read_text())
        first = earlier["parameters"]["first_seed"] + earlier["parameters"]["files"]
    report = report_of(options.count, first, options.jobs, quick=False, earlier=earlier)
    print(report.write(options.out))
    for fault in report.values["trials"]["faults"][:20]:
        print(fault)


if __name__ == "__main__":
    main()
