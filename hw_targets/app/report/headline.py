"""What a reader looks at first: the few numbers people ask for, and what was checked against what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape

from hw_targets.app.report import words
from hw_targets.app.report.read import Record, Run, number, records, table, text
from hw_targets.app.report.words import UNKNOWN, count, fewer, joules, percent

#: Accuracies in the order of the chain: key in the summary, name.
CHAIN = {
    "validation_accuracy": "validation",
    "dense_accuracy": "dense",
    "pruned_accuracy": "pruned",
    "quantized_accuracy": "quantized",
    "chip_accuracy": "chip integers",
}


def lead(run: Run) -> str:
    """The run in one sentence; "" where too little is known."""
    said = []
    sparsity, weights = number(run.summary, "sparsity"), number(run.summary, "weights")
    if sparsity is not None:
        of = f"{count(weights)} weights" if weights is not None else "the weights"
        said.append(f"{percent(sparsity)} of {of} are zero")
    before, after = number(run.summary, "dense_accuracy"), number(run.summary, "pruned_accuracy")
    if before is not None and after is not None:
        said.append(f"accuracy went from {percent(before)} to {percent(after)}")
    synops = number(run.summary, "synops_dense"), number(run.summary, "synops_pruned")
    if None not in synops:
        said.append(f"synaptic operations per sample: {fewer(*synops)}")
    return "; ".join(said) + "." if said else ""


def tiles(run: Run) -> str:
    """The numbers, each with what it was before pruning; only those that are known."""
    found = "".join(
        f"<li><span>{escape(title)}</span><b>{escape(value)}</b><span>{escape(note)}</span></li>"
        for title, value, note in _tiles(run)
    )
    return f'<ul class="tiles">{found}</ul>' if found else ""


def _tiles(run: Run) -> Iterator[tuple[str, str, str]]:
    values, chip = run.values("{}_accuracy"), text(run.summary, "energy_chip") or UNKNOWN
    if values["pruned"] is not None:
        yield "Accuracy", percent(values["pruned"]), _before(values, percent, words.points)
    elif (validation := number(run.summary, "validation_accuracy")) is not None:
        yield "Validation accuracy", percent(validation), ""
    sparsity = number(run.summary, "sparsity")
    if sparsity is not None:
        left = run.weights_left
        note = "" if left is None else f"{count(left)} weights are left"
        yield "Zeros among the weights", percent(sparsity), note
    for key, title in (("synops_{}", "Synaptic operations per sample"), ("macs_{}", "MACs per sample")):
        values = run.values(key)
        if values["pruned"] is not None and (key == "synops_{}" or not number(run.summary, "synops_pruned")):
            yield title, words.short(values["pruned"]), _before(values, words.short, fewer)
    if table(run.summary, "cores"):
        values = run.values("energy_{}_j")
        unpublished = "its cost per operation is unpublished" if values["pruned"] is None else ""
        yield f"Energy per sample, {chip}", joules(values["pruned"]), unpublished or _before(values, joules, fewer)
        values = run.values("time_{}_s")
        if values["pruned"] is not None:
            yield f"Time per sample, {chip}", words.duration(values["pruned"]), _before(values, words.duration, fewer)
    for name in run.chips:
        used = table(table(run.summary, "cores"), name)
        cores = {version: number(used, version) for version in run.versions}
        if cores["pruned"] is not None:
            yield f"Cores on {name}", count(cores["pruned"]), _before(cores, count, fewer)


def _before(
    values: dict[str, float | None],
    write: Callable[[float | None], str],
    change: Callable[[float | None, float | None], str],
) -> str:
    """'from 91.23 %: −0.36 points'; "" of a model alone."""
    before = values.get("dense")
    return "" if before is None else f"from {write(before)}: {change(before, values['pruned'])}"


def chain(run: Run) -> str:
    """Accuracies along the chain, each with its difference to the one before; "" with fewer than two."""
    values = {name: number(run.summary, key) for key, name in CHAIN.items() if number(run.summary, key) is not None}
    if "dense" not in values and "pruned" in values:
        values = {"model" if name == "pruned" else name: value for name, value in values.items()}
    if len(values) < 2:
        return ""
    items, before = [], None
    for name, value in values.items():
        change = "" if before is None else words.points(before, value)
        items.append(f"<li><span>{escape(name)}</span><b>{percent(value)}</b><span>{escape(change)}</span></li>")
        before = value
    return f'<ol class="chain">{"".join(items)}</ol>\n<p class="note">Each difference is to the one before it.</p>'


def checks(run: Run) -> str:
    """What was compared with what, and how many differences there were; "" where nothing was."""
    found = [_verdict(check) for check in _all_checks(run)]
    note = text(run.summary, "lava_note")
    return "\n".join(found) + (f'<p class="note">{escape(note)}</p>' if note else "")


def _all_checks(run: Run) -> Iterator[Record]:
    yield from records(run.summary, "checks")
    if number(run.summary, "lava_spike_differences") is not None:  # as the demo names them
        yield {
            "what": "spikes of all layers of the exported file",
            "against": "Lava's simulator",
            "compared": run.summary.get("lava_spikes_compared"),
            "differences": run.summary.get("lava_spike_differences"),
            "samples": run.summary.get("lava_samples"),
        }


def _verdict(check: Record) -> str:
    differences, compared = number(check, "differences"), number(check, "compared")
    against, unit = text(check, "against") or UNKNOWN, text(check, "unit") or "spikes"
    if differences is None:
        kind, sentence = "", f"Not compared with {against}."
    elif differences > 0:
        kind, sentence = "bad", f"{count(differences)} differences from {against}, {unit} compared: {count(compared)}."
    elif not compared:  # zero differences in nothing prove nothing
        kind, sentence = (
            "",
            f"0 differences from {against}, but {unit} compared: {count(compared)}. This shows nothing.",
        )
    else:
        kind, sentence = "good", f"0 differences from {against} in {count(compared)} {unit} compared."
    what, samples = text(check, "what") or UNKNOWN, number(check, "samples")
    over = "" if samples is None else f" Samples: {count(samples)}."
    return (
        f'<div class="verdict {kind}"><p><b>{escape(sentence)}</b></p>'
        f'<p class="note">Compared: {escape(what)}.{over}</p></div>'
    )


def not_done(run: Run) -> str:
    """Parts that could not be done, each with its reason; "" where all were."""
    found = "".join(
        f"<li><b>{escape(text(part, 'part') or UNKNOWN)}</b>: {escape(text(part, 'reason') or UNKNOWN)}</li>"
        for part in records(run.summary, "not_done")
    )
    return f'<ul class="left">{found}</ul>' if found else ""


def energy_scope(run: Run) -> str:
    """For which chip the energy was computed, and what it leaves out; "" where none was."""
    chip, listed = text(run.summary, "energy_chip"), run.summary.get("energy_not_modelled")
    if chip is None:
        return ""
    names = [item for item in listed if isinstance(item, str)] if isinstance(listed, list) else []
    left = f" Not counted: {'; '.join(names)}." if names else ""
    return f"Energy is an estimate for {chip} from published coefficients.{left}"
