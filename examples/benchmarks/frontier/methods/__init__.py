"""Pruning methods behind one protocol. A new one is one class with `attach(run)`, and one line here."""

from examples.benchmarks.frontier.methods.at_init import SNIP, SynFlow
from examples.benchmarks.frontier.methods.base import Dense, Handle, Knob, Method, Run
from examples.benchmarks.frontier.methods.gmp import GMP
from examples.benchmarks.frontier.methods.ours import PruneAtInitialization, PruneTo, SoftThreshold
from examples.benchmarks.frontier.methods.pat import PAT
from examples.benchmarks.frontier.methods.rigl import RigL
from examples.benchmarks.frontier.methods.st3 import ST3

_ALL: tuple[Method, ...] = (
    Dense(),
    PruneTo(),
    SoftThreshold("lats", "lats"),
    SoftThreshold("lats+freeze", "lats", freeze_at=0.5),
    SoftThreshold("pgh", "pgh"),
    SoftThreshold("pgh+freeze", "pgh", freeze_at=0.5),
    SoftThreshold("slats", "slats"),
    SoftThreshold("stds-linear", "stds-linear"),
    SoftThreshold("stds-sine", "stds-sine"),
    SoftThreshold("str", "str", knob=Knob("weight_decay", 1e-2)),
    GMP(),
    RigL(),
    ST3(),
    PAT(),
    PruneAtInitialization(),
    SNIP(),
    SynFlow(),
)
#: Methods by name, in the order of the tables.
METHODS: dict[str, Method] = {method.name: method for method in _ALL}

__all__ = ["METHODS", "Handle", "Knob", "Method", "Run"]
