"""`python -m examples.benchmarks.coverage_spikingjelly [names]`: what of SpikingJelly is read, and how exactly.

Every model of its zoo, every neuron and layer: batch-norms are given the statistics of one batch, the model is read on
it, and every spike of every neuron is compared on another. Results are kept one by one, so that a run may be stopped
and go on; the table is written at the end of each.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from examples.benchmarks.common import RESULTS
from examples.benchmarks.coverage.spikingjelly_cases import STEPS, Case, parts, zoo
from hw_targets import HardwareTargetError, from_torch, spike_difference

STORE, TABLE = RESULTS / "coverage_spikingjelly.json", RESULTS / "coverage_spikingjelly.md"


@dataclass(frozen=True)
class Row:
    """One model: `verdict` is exact, refused or differs; `detail` the reason, or what was compared."""

    verdict: str
    detail: str


def look(case: Case) -> Row:
    """Read a model on one batch and compare it on another."""
    torch.manual_seed(0)
    model, example = case.build().double(), case.inputs(0)
    _settle(model, example)
    try:
        network = from_torch(model, example, time_steps=STEPS if case.mode == "s" else None)
    except HardwareTargetError as error:
        return Row("refused", str(error).removeprefix("from_torch: "))
    found = spike_difference(model, network, case.inputs(1))
    sent = f"{sum(found.model.values())} spikes of {len(found.model)} layers on a fresh batch"
    notes = "".join(f"; {note}" for note in network.notes)
    return Row("exact" if not found.total else "differs", f"{found.total} differ of {sent}{notes}")


def _settle(model: nn.Module, example: Tensor) -> None:
    """Batch-norms with the statistics of one batch, so that neurons fire in every layer."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for norm in norms:
        norm.momentum = None
        if norm.affine and not bool(norm.weight.any()):
            # Residual branches that start at nothing would hide what they compute.
            nn.init.constant_(norm.weight, 0.5)
    if norms:
        model.train()
        functional.reset_net(model)
        with torch.no_grad():
            model(example)
        functional.reset_net(model)
    model.eval()


def table(rows: Mapping[str, Row]) -> str:
    """Markdown."""
    counts = {v: sum(row.verdict == v for row in rows.values()) for v in ("exact", "refused", "differs")}
    lines = [
        "# What of SpikingJelly 2.0 is read",
        "",
        f"Made by `python -m examples.benchmarks.coverage_spikingjelly`: {counts['exact']} exact, {counts['refused']}"
        f" refused by name, {counts['differs']} that differ.",
        "",
        "| what | verdict | what was compared, or why it is refused and what is read instead |",
        "| :-- | :-- | :-- |",
        *(f"| {name} | {row.verdict} | {row.detail.replace('|', '/')} |" for name, row in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at the named cases, or at all that were not looked at yet, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks.coverage_spikingjelly", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help="look at these alone, again (default: all not yet seen)"
    )
    parser.add_argument("--out", type=Path, default=STORE, help=f"where results are kept (default: {STORE})")
    options = parser.parse_args(arguments)
    cases = {**parts(), **zoo()}
    if unknown := set(options.names) - set(cases):
        parser.error(f"unknown: {sorted(unknown)}")
    kept = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    rows = {name: Row(**row) for name, row in kept.items()}
    for name in options.names or [n for n in cases if n not in rows]:
        rows[name] = look(cases[name])
        print(f"{name}: {rows[name].verdict}, {rows[name].detail}", flush=True)
        keep({n: rows[n] for n in cases if n in rows}, options.out)
    return 0


def keep(rows: Mapping[str, Row], path: Path) -> None:
    """Write the results, and their table beside them."""
    path.write_text(json.dumps({n: asdict(r) for n, r in rows.items()}, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
