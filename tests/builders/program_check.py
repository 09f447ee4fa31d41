"""A program against the network that is read from it, and its operations against the dispatcher's count."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from examples.benchmarks.truth.finding import Finding
from examples.benchmarks.truth.tape import Tape
from hw_targets import emulate, from_torch
from hw_targets.errors import HardwareTargetError
from hw_targets.ir.network import Network
from neuroprune import count_synops
from tests.builders.programs import Program, draw_program, in_double
from tests.twins.dispatch import dispatch_count


def check_program(tape: Tape) -> Finding:
    """Read a program and compare every spike on inputs that `from_torch` never saw; count its operations twice."""
    with in_double():
        return _checked(draw_program(tape), tape)


def _checked(program: Program, tape: Tape) -> Finding:
    finding = Finding(program.source, program.features, tape=tape.values)
    example = program.inputs(program.integers(0))
    if not finding.features["hidden from torch"]:  # neither count knows that it is data
        _check_counts(finding, program, example)
    else:
        program.observe(example)  # it runs
    try:
        network = from_torch(
            program.fresh(),
            example[0] if program.calls else example,
            time_steps=program.steps if program.calls else None,
        )
    except HardwareTargetError as error:
        finding.refused = str(error)
        return finding
    finding.neurons = sum(p.size for p in network.populations if not p.is_input)
    for seed in (1, 2):
        _compare(finding, program, network, program.integers(seed))
    return finding


def _compare(finding: Finding, program: Program, network: Network, integers: Tensor) -> None:
    activity = emulate(network, integers, static=True)
    sent, returned = program.observe(program.inputs(integers))
    for name, calls in sent.items():
        if name not in activity.spikes:
            continue
        ours = activity.spikes[name]
        theirs = torch.cat(calls) if program.style == "multi-step" and len(calls) == 1 else torch.stack(calls)
        if theirs.numel() != ours.size:
            finding.note(f"{name} sent {tuple(theirs.shape)}, not {ours.shape}", 1)
            continue
        finding.compare(name, ours, theirs.numpy())
    if program.total is None:
        return
    value = torch.stack(returned) if program.calls else returned
    total = program.total(value).reshape(activity.output.shape).numpy()
    off = ~np.isclose(activity.output, total, rtol=1e-9, atol=1e-7)
    finding.note("output", int(off.sum()))


def _check_counts(finding: Finding, program: Program, example: Tensor) -> None:
    def run(model: Any, x: Tensor) -> Any:
        torch.default_generator.manual_seed(0)
        return program.run(model, x)

    ours = count_synops(program.fresh(), example, forward=run)
    theirs = dispatch_count(program.fresh(), example, run)
    numbers = {name: (getattr(ours, name.replace("synops", "total")), getattr(theirs, name)) for name in COUNTS}
    for name, (counted, seen) in numbers.items():
        if counted != seen:
            kinds = {layer.name: layer.kind for layer in ours.layers.values()}
            finding.note(f"count_synops {name}: {counted}, not {seen} ({kinds}, {ours.uncounted})", 1)


COUNTS = ("synops", "dense", "macs", "dense_macs")
