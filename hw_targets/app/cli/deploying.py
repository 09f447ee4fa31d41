"""`neuroprune deploy`: from one's own trained model and data to a chip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hw_targets.app.cli.console import Console
from hw_targets.app.cli.tables import percent, quantity, table
from hw_targets.app.deploy import Deployment, deploy
from hw_targets.app.given import arguments_of, data_of, model_of


@dataclass(frozen=True)
class Asked:
    """The command's arguments; `model` and `data` with those of their factories, KEY=VALUE."""

    model: tuple[str, Sequence[str]]
    data: tuple[str, Sequence[str]]
    chip: str
    out: Path
    weights: Path | None
    dense: Path | None
    time_steps: int | None
    samples: int
    tested: int
    compared: int
    overwrite: bool
    name: str | None


def deploy_(asked: Asked, console: Console) -> None:
    """`hw_targets.deploy` of what files and factories hold."""
    (factory, given), (source, data_given) = asked.model, asked.data
    arguments = arguments_of(given)
    data = data_of(source, arguments_of(data_given))
    model = model_of(factory, arguments, asked.weights)
    dense = None if asked.dense is None else model_of(factory, arguments, asked.dense)
    with console.progress():
        done = deploy(
            model,
            data,
            chip=asked.chip,
            out=asked.out,
            dense=dense,
            time_steps=asked.time_steps,
            samples=asked.samples,
            tested=asked.tested,
            compared=asked.compared,
            overwrite=asked.overwrite,
            name=asked.name,
            announce=lambda part: console.say(f"· {part}"),
        )
    words = ["", result_table(done, "dense" if dense is not None else None)]
    words += [f"not done: {part}: {reason}" for part, reason in done.not_done.items()]
    words += ["", f"{done.report or asked.out} shows it; the files are beside it."]
    found = {**done.summary, "out": asked.out, "report": done.report, "not_done": dict(done.not_done)}
    console.result(found, "\n".join(words))


def result_table(done: Deployment, dense: str | None) -> str:
    """Accuracies, operations, energy and cores, and what was compared with what."""
    summary, chip = done.summary, done.summary["chip"]
    versions = [*([dense] if dense else []), "pruned"]

    def row(title: str, key: str, unit: str = "") -> list[str]:
        values = [summary.get(key.format(v)) for v in versions]
        words = [percent(v) if unit == "%" else quantity(v, unit) for v in values]
        return [title, *("–" if v is None else word for v, word in zip(values, words, strict=True))]

    cores = summary.get("cores", {}).get(chip, {})
    rows = [
        row("accuracy", "{}_accuracy", "%"),
        row("synaptic operations / sample", "synops_{}"),
        row(f"energy / sample, {chip}", "energy_{}_j", "J"),
        ["cores", *(str(cores.get(v, "–")) for v in versions)],
    ]
    lines = [table(rows, ["", *(versions if dense else ["model"])]), ""]
    for key, what in (("chip_accuracy", f"accuracy in {chip} integers"), ("sparsity", "zeros")):
        if key in summary:
            lines.append(f"{what}: {percent(summary[key])}")
    for check in summary["checks"]:
        lines.append(
            f"{check['differences']} differences in {check['compared']}: {check['what']}, against {check['against']}"
        )
    return "\n".join(lines)
