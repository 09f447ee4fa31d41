"""What comparing many generated networks showed, in a report."""

from __future__ import annotations

from examples.benchmarks.common import Goal, Report, Result, Summary
from examples.benchmarks.truth.finding import Tally


def add_tally(report: Report, what: str, tally: Tally) -> None:
    """A tally as values, and as the share of spikes that differ."""
    wrong, refused = len(tally.failures), sum(tally.refusals.values())
    report.values[what] = {"exact": tally.networks - wrong, "refusals": refused, "wrong": wrong, **tally.as_json()}
    share = tally.differing / max(1, tally.spikes)
    label = f"{tally.networks} {what}: spikes that differ / {tally.spikes} spikes"
    report.results.append(Result(what, label, Summary(share, share, share, 1), Goal(0.0)))
    for failure in tally.failures:
        print(f"{what}, seed {failure['seed']}: {failure}", flush=True)
