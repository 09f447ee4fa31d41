"""The text of a program while it is being made up: lines of `__init__` and `forward`, and what `h` holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from examples.benchmarks.truth.tape import Tape

#: How a program takes a sample's steps: all at once; one a call; in a loop of its own, over frames or of one image.
STYLES = ("multi-step", "single-step", "frames", "image", "hidden", "states over frames", "states of an image")


@dataclass
class Text:
    """A program being written.

    Attributes:
        style: one of `STYLES`; the last three are snnTorch's, the others SpikingJelly's.
        shape: of `h` in one step, (F,) or (C, H, W).
        binary: `h` holds the spikes of one layer of neurons.
        init: lines of `__init__`.
        before: lines of `forward` before the loop over time.
        body: lines that are done in every step, or, of multi-step programs, once.
        after: lines after the loop.
        features: what the program has.
    """

    tape: Tape
    style: str
    shape: tuple[int, ...]
    steps: int
    binary: bool = False
    init: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    features: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)

    @property
    def is_snntorch(self) -> bool:
        return self.style in STYLES[4:]

    @property
    def loops(self) -> bool:
        """Whether `t` counts its steps."""
        return self.style in ("frames", "image", "states over frames", "states of an image")

    @property
    def whole(self) -> bool:
        """Whether `h` holds all steps, (T, N, …)."""
        return self.style == "multi-step"

    @property
    def size(self) -> int:
        size = 1
        for n in self.shape:
            size *= n
        return size

    def add(self, name: str, made_by: str) -> str:
        """A new attribute; gives how `forward` calls it."""
        attribute = self.local(name)
        self.init.append(f"self.{attribute} = {made_by}")
        return f"self.{attribute}"

    def local(self, name: str) -> str:
        """A new local name."""
        self.names[name] += 1
        return f"{name}{self.names[name] - 1}"

    def do(self, line: str, feature: str = "") -> None:
        """One more line of the body."""
        self.body.append(line)
        if feature:
            self.features[feature] += 1

    def start(self, line: str) -> None:
        """One more line before the loop; of programs without one, in the body."""
        (self.before if self.loops else self.body).append(line)
