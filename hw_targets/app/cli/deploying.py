"""`neuroprune deploy`: from one's own trained model and data to a chip."""

from __future__ import annotations

import argparse

from hw_targets.app.cli.tables import percent, quantity, table
from hw_targets.app.deploy import Deployment, deploy
from hw_targets.app.given import arguments_of, data_of, model_of


def deploy_(options: argparse.Namespace) -> None:
    arguments = arguments_of(options.model_arg)
    data = data_of(options.data, arguments_of(options.data_arg))
    model = model_of(options.model, arguments, options.weights)
    dense = None if options.dense is None else model_of(options.model, arguments, options.dense)
    done = deploy(
        model,
        data,
        chip=options.chip,
        out=options.out,
        dense=dense,
        time_steps=options.time_steps,
        samples=options.samples,
        tested=options.tested,
        compared=options.compared,
        overwrite=options.overwrite,
        name=options.name,
        announce=lambda part: print(f"· {part}", flush=True),
    )
    print("\n" + result_table(done, "dense" if dense is not None else None))
    for part, reason in done.not_done.items():
        print(f"not done: {part}: {reason}")
    print(f"\n{done.report or options.out} shows it; the files are beside it.")


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
