"""`python -m examples.xylo TASK --wheel aeon-1.6.0-py3-none-any.whl`: train, prune, fit, and ask xylosim.

Three networks of two hidden layers: one with all weights, which the chip does not hold; the same, pruned until it does;
and one with all weights, narrow enough to have no more synapses than the pruned one. Each is trained on the chip's
integers. Learning rate and gain are chosen for each from one grid, by its accuracy on a held-out third of the training
samples (or the mean of two in turn; among equals by the loss). Then each is trained on all of them for five seeds, and
every integer of every test sample is compared with xylosim's. Runs are written as they end; a file is gone on with.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from examples.xylo.tasks import TASKS, Task, held_out
from examples.xylo.training import Contender, Settings, contenders, judged, trained, validated
from hw_targets.app.cli.tables import percent, table
from hw_targets.app.versions import commit, versions
from hw_targets.files.atomic import new_file
from neuroprune.training.data.arrays import ArraySet

RESULTS = Path(__file__).parent / "results"
#: What every contender is tried with.
GRID = tuple(Settings(rate, gain) for rate in (3e-3, 1e-2) for gain in (0.1, 0.3))
Rows = list[dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Choose, train and compare; what the file holds already is not run again."""
    parser = argparse.ArgumentParser(prog="python -m examples.xylo", description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--wheel", type=Path, required=True, help="aeon-1.6.0-py3-none-any.whl, or its like")
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="optimizer steps, instead of the task's own")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    # Threads that wait for each other after every small kernel take longer than one.
    torch.set_num_threads(1)
    task = TASKS[options.task]
    data, steps = task.data(options.wheel), options.steps or task.steps
    path = options.out / f"{options.task}.json"
    about = {"task": task.name, "chip": task.chip, "length": task.length, "levels": task.levels, "steps": steps}
    report = opened(path, about)
    everyone = contenders(task, data.train.classes)
    for third in task.thirds:
        for contender in everyone:
            choose(path, report, task, data.train, contender, third, steps)
    for seed in range(options.seeds):
        for contender in everyone:
            settings = chosen(report["selection"], contender)
            row = {"seed": seed, "kind": contender.kind, "hidden": 2 * contender.hidden, **asdict(settings)}
            if not known(report["runs"], row):
                model = trained(task, data.train, contender, settings, seed, steps)
                report["runs"].append({**row, **judged(task, model, data.train, data.test)})
                write(path, report)
    print(as_table(report["runs"]))
    return 0


def choose(
    path: Path, report: dict[str, Any], task: Task, data: ArraySet, contender: Contender, third: int, steps: int
) -> None:
    """Try the grid with a third of the training samples held out."""
    for settings in GRID:
        row = {"kind": contender.kind, "third": third, **asdict(settings)}
        if not known(report["selection"], row):
            fitting, held = held_out(data, third)
            model = trained(task, fitting, contender, settings, third, steps)
            report["selection"].append({**row, **validated(model, held, settings.gain)})
            write(path, report)


def known(rows: Rows, row: dict[str, Any]) -> bool:
    """Whether a run is there already."""
    return any(row.items() <= old.items() for old in rows)


def chosen(selection: Rows, contender: Contender) -> Settings:
    """The settings with the highest mean accuracy on what was held out, and of several the lowest mean loss."""

    def worth(settings: Settings) -> tuple[float, float]:
        wanted = {"kind": contender.kind, **asdict(settings)}
        mine = [row for row in selection if wanted.items() <= row.items()]
        return sum(row["accuracy"] for row in mine), -sum(row["loss"] for row in mine)

    return max(GRID, key=worth)


def opened(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What a file holds of the same task and number of steps; nothing yet where there is none."""
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if all(old.get(key) == value for key, value in about.items()):
        return old
    found: dict[str, Any] = {**about, "commit": commit(), "versions": versions(), "selection": [], "runs": []}
    return found


def write(path: Path, report: dict[str, Any]) -> None:
    """All runs so far, with where and from what they come."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def as_table(runs: Rows) -> str:
    """Means over seeds, and of the accuracy the standard deviation."""
    rows = []
    for kind in dict.fromkeys(run["kind"] for run in runs):
        mine = [run for run in runs if run["kind"] == kind]

        def mean(key: str, mine: Rows = mine) -> float:
            return float(sum(run[key] for run in mine)) / len(mine)

        spread = torch.tensor([run["accuracy"] for run in mine]).std(correction=0)
        fits = sum(not run["does_not_fit"] for run in mine)
        rows.append(
            [f"{kind}, {mine[0]['hidden']} neurons", f"{percent(mean('accuracy'))} ± {100 * float(spread):.1f}"]
            + [percent(mean("accuracy_on_chip")), f"{fits} of {len(mine)}"]
            + [f"{mean(key):,.0f}" for key in ("synapses_of_hidden_neurons", "cycles_per_step")]
            + [f"{sum(run['integers_that_differ'] for run in mine)} of {sum(r['integers_compared'] for r in mine):,}"]
        )
    head = ["", "accuracy", "on the chip", "fit", "synapses", "cycles a step", "integers unlike xylosim's"]
    return table(rows, head)


if __name__ == "__main__":
    sys.exit(main())
