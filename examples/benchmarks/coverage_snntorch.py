"""snnTorch's tutorials, network by network and neuron by neuron: exact, refused, or approximate on a chip."""

from __future__ import annotations

import copy
from typing import Any

import snntorch as snn
from torch import Tensor, nn

from examples.benchmarks.common import Goal, Report, Result, one_thread, summarize
from examples.benchmarks.coverage.judge import judge, table
from examples.benchmarks.coverage.snntorch_constructions import CASES as CONSTRUCTIONS
from examples.benchmarks.coverage.snntorch_convolutional import CONVOLUTIONAL
from examples.benchmarks.coverage.snntorch_dense import DENSE
from neuroprune.training.progress import progress_bar

NETS = (*DENSE, *CONVOLUTIONAL)
METHOD = (
    "Every network of snnTorch's tutorials and examples as it is written, its first weights times 3, and each of the"
    " 253 neurons they construct, behind a linear layer or a convolution. Read by from_torch, then run on two inputs"
    " that it was not read with, in double precision; exact: every spike of every neuron in every step is the model's."
    " refused: with the reason, and what the advice, followed, gives."
)


def precise(model: nn.Module) -> nn.Module:
    """A copy in double precision, whose surrogates send what they are given the precision of."""
    twin = copy.deepcopy(model).double()
    for module in twin.modules():
        if isinstance(module, snn.SpikingNeuron):
            module.spike_grad = _heaviside
    return twin


def _heaviside(x: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)


def run(*, quick: bool = False) -> Report:
    """Every case; a quick run takes every fifth."""
    report = Report("coverage_snntorch", quick, {"nets": len(NETS), "constructions": len(CONSTRUCTIONS)}, METHOD)
    chosen = {"networks": NETS[:: 5 if quick else 1], "neurons": CONSTRUCTIONS[:: 5 if quick else 1]}
    with one_thread(), progress_bar(sum(map(len, chosen.values())), "coverage_snntorch") as bar:
        for label, cases in chosen.items():
            verdicts = []
            for case in cases:
                snn.SpikingNeuron.init()  # utils.reset resets every neuron ever made, and fails on a DeltaLeaky
                verdicts.append(judge(case, precise))
                bar.update()
            report.values[label] = [
                {**vars(v), "name": c.name, "count": c.count} for c, v in zip(cases, verdicts, strict=True)
            ]
            total, times = sum(c.count for c in cases), {"exact": 0, "wrong": 0}
            for case, verdict in zip(cases, verdicts, strict=True):
                times[verdict.status] = times.get(verdict.status, 0) + case.count
            exact, goal = summarize([100 * times["exact"] / total]), Goal(90, at_least=True)
            name = f"snnTorch's tutorials: {total} {label}"
            report.results += [
                Result(f"{label}/exact", f"{name} read exactly, per cent", exact, goal if label == "neurons" else None),
                Result(f"{label}/wrong", f"{name}, read wrong", summarize([times["wrong"]]), Goal(0)),
            ]
    return report


def markdown(values: dict[str, list[dict[str, Any]]]) -> str:
    """Both tables."""
    return "\n\n".join(f"## {label.capitalize()}\n\n{table(rows)}" for label, rows in values.items())
