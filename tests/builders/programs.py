"""Spiking programs made up at random, as text: what people write in `forward`, the odd and the wrong included."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import snntorch as snn
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from examples.benchmarks.truth.tape import Tape
from neuroprune.frameworks import framework_of, spikes_of
from tests.builders.program_parts import INSTEAD_OF_NEURONS, ON_CURRENTS, ON_SPIKES, conv, fire, linear
from tests.builders.program_text import STYLES, Text

SAMPLES = 2


@dataclass
class Program:
    """A model, what it takes, and how its returned value adds up to the sums over time that a network's output is.

    Attributes:
        source: the text of its class.
        model: never run; take a copy.
        style: one of `STYLES`.
        shape: of a sample in one step.
        steps: T.
        spikes: inputs are 0 and 1, or else pixels.
        total: from the returned value (of all steps, stacked, where a call is one step) to (N, …); None where unknown.
    """

    source: str
    model: nn.Module
    style: str
    shape: tuple[int, ...]
    steps: int
    spikes: bool
    features: Counter[str]
    total: Callable[[Tensor], Tensor] | None

    @property
    def calls(self) -> bool:
        """Whether a call is one step."""
        return self.style in ("single-step", "hidden")

    def integers(self, seed: int) -> Tensor:
        """What a network is shown, (T, N, *shape), or (N, *shape) of programs that repeat an image."""
        lead = (SAMPLES,) if self.style in ("image", "states of an image") else (self.steps, SAMPLES)
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 2 if self.spikes else 256, (*lead, *self.shape), generator=generator)

    def inputs(self, integers: Tensor) -> Tensor:
        """What the model is given for that."""
        return integers.double() if self.spikes else integers.double() / 255

    def run(self, model: nn.Module, inputs: Tensor) -> Any:
        """What the model returns, of all steps where a call is one."""
        return [model(x) for x in inputs] if self.calls else model(inputs)

    def fresh(self) -> nn.Module:
        """A copy of the model, which nobody has run."""
        return copy.deepcopy(self.model)

    def observe(self, inputs: Tensor) -> tuple[dict[str, list[Tensor]], Any]:
        """What each layer of neurons sent in each call, and what the model returned."""
        model = self.fresh()
        framework = framework_of(model)
        assert framework is not None
        seen: dict[str, list[Tensor]] = {}
        for name, module in model.named_modules():
            if framework.is_neuron(module):
                module.register_forward_hook(
                    lambda _m, _i, out, name=name: seen.setdefault(name, []).append(spikes_of(out).clone())
                )
        with torch.no_grad():
            return seen, self.run(model, inputs)


@contextmanager
def in_double() -> Iterator[None]:
    """Fresh tensors are double precision, so that no program mixes them and rounding tips no threshold."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def draw_program(tape: Tape) -> Program:
    """Style, input, one to three layers of neurons with what stands between them, and what is returned."""
    style, spikes = tape.choice(*STYLES), tape.chance(50)
    shape = tape.choice((4,), (1, 4, 4), (2, 3, 3))
    p = Text(tape, style, shape, steps=tape.integer(3, 5))
    _start(p)
    for index in range(tape.integer(1, 3)):
        _block(p, first=index == 0)
    if tape.chance(50):
        linear(p)
        p.binary = False
        p.features["readout"] += 1
    total = _finish(p)
    source = _source(p)
    numbers = tape.integer(0, 9999)
    return Program(source, build(source, numbers), style, shape, p.steps, spikes, p.features, total)


def build(source: str, seed: int) -> nn.Module:
    """The model of a program's text, in evaluation mode."""
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "snn": snn, "layer": layer, "neuron": neuron}
    names |= {"functional": functional, "step": _step}
    exec(compile(source, "program", "exec"), names)
    torch.default_generator.manual_seed(seed)
    model: nn.Module = names["Model"]()
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(m.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(m.running_var, 0.3, 1.2)  # type: ignore[arg-type]
    return model.double().eval()


def _step(u: Tensor) -> Tensor:
    """A surrogate's forward, in the precision of what it gets: snnTorch's own are single."""
    return (u > 0).to(u.dtype)


def _start(p: Text) -> None:
    p.features[p.style] += 1
    first = "x"
    if p.style in ("frames", "states over frames"):
        first = p.tape.choice("x[t - 1]", f"x[{p.steps - 1} - t]", "x.flip(0)[t]") if p.tape.chance(10) else "x[t]"
        p.features.update(["steps in another order"] if first != "x[t]" else [])
    if p.whole and p.tape.chance(5):
        first, _ = "x.flip(0)", p.features.update(["steps in another order"])
    p.body.append(f"h = {first}")


def _block(p: Text, *, first: bool) -> None:
    if not first:
        for _ in range(p.tape.choice(0, 0, 1, 1, 2)):
            p.tape.choice(*ON_SPIKES)(p)
    elif p.tape.chance(10):
        p.tape.choice(*ON_SPIKES[:4])(p)
    (conv if len(p.shape) == 3 and p.tape.chance(65) else linear)(p)
    if p.tape.chance(12):
        p.tape.choice(*ON_CURRENTS)(p)
    before = len(p.body)
    if p.tape.chance(10):
        p.tape.choice(*INSTEAD_OF_NEURONS)(p)
    if len(p.body) == before:
        fire(p)


def _finish(p: Text) -> Callable[[Tensor], Tensor] | None:
    steps = p.steps

    def known(way: str) -> Callable[[Tensor], Tensor] | None:
        return {
            "steps": lambda r: r.sum(0),
            "steps second": lambda r: r.sum(1),
            "sum": lambda r: r,
            "mean": lambda r: r * steps,
        }.get(way)

    if p.whole:
        text, way = p.tape.choice(
            ("h", "steps"),
            ("h.mean(0)", "mean"),
            ("h.sum(0)", "sum"),
            ("h.mean(dim=0)", "mean"),
            ("h", "steps"),
            ("h.mean(0)", "mean"),
            ("h.sum(dim=0)", "sum"),
            ("h.transpose(0, 1)", "steps second"),
            ("h[-1]", "last step"),
            ("(h, h)", "odd"),
            ("{'out': h}", "odd"),
            ("h.mean(0) * 3", "odd"),
            ("h.mean(0).softmax(-1)", "odd"),
            ("h.mean(0).argmax(-1)", "odd"),
            ("h.max(0).values", "odd"),
            ("[y for y in h]", "odd"),
        )
        p.body.append(f"return {text}")
    elif not p.loops:
        odd = p.tape.chance(15)
        text, way = p.tape.choice(("(h, x)", "odd"), ("h * 1.5", "odd"), ("[h]", "odd")) if odd else ("h", "steps")
        p.body.append(f"return {text}")
    else:
        way = _collected(p)
    p.features[f"returns {way}"] += 1
    return known(way)


def _collected(p: Text) -> str:
    """What a loop of the program's own gathers and returns."""
    before, each, text, way = p.tape.choice(
        ("outs = []", "outs.append(h)", "torch.stack(outs)", "steps"),
        ("outs = []", "outs.append(h)", "torch.stack(outs, dim=0)", "steps"),
        ("acc = 0", "acc = acc + h", "acc", "sum"),
        ("acc = 0", "acc += h", f"acc / {p.steps}", "mean"),
        ("outs = []", "outs.append(h)", "torch.stack(outs).mean(0)", "mean"),
        ("outs = []", "outs.append(h)", "sum(outs)", "sum"),
        ("outs = []", "outs.append(h)", "torch.stack(outs, 1)", "steps second"),
        ("outs = []", "outs.append(h)", "outs", "odd"),
        ("outs = []", "outs.append(h)", "outs[-1]", "last step"),
        ("outs = []", "outs.append(h)", "torch.stack(outs[1:])", "odd"),
        ("outs = []", "outs.append(h.unsqueeze(0))", "torch.cat(outs)", "steps"),
        ("out = [None] * 9", "out[t] = h", f"torch.stack(out[:{p.steps}])", "steps"),
        ("acc = 0", "acc = 0.5 * acc + h", "acc", "odd"),
        ("outs = []", "outs.append(h)", "{'spk': torch.stack(outs)}", "odd"),
        ("outs = []", "outs.append(h)", "(torch.stack(outs), outs[-1])", "odd"),
        ("acc = torch.zeros(1)", "acc = acc + h", "acc", "sum"),
    )
    p.before.append(before)
    p.body.append(each)
    p.after.append(f"return {text}")
    return way


def _source(p: Text) -> str:
    lines = ["class Model(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    lines += [f"        {line}" for line in p.init]
    if p.whole:
        lines.append("        functional.set_step_mode(self, 'm')")
    lines += ["", "    def forward(self, x):"]
    lines += [f"        {line}" for line in p.before]
    if p.loops:
        lines.append(f"        for t in range({p.steps}):")
    indent = "            " if p.loops else "        "
    lines += [f"{indent}{line}" for line in p.body]
    lines += [f"        {line}" for line in p.after]
    return "\n".join(lines) + "\n"
