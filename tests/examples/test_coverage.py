"""Coverage tables: verdicts that are earned, and faults that are seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import hw_targets
from examples.benchmarks import coverage_snntorch
from examples.benchmarks.coverage.judge import judge, table
from examples.benchmarks.coverage.snntorch_constructions import CASES, CONSTRUCTIONS
from hw_targets.ir.network import LIF, Network

BY_NAME = {case.name: case for case in CASES}


def test_all_constructions_are_counted() -> None:
    assert sum(CONSTRUCTIONS.values()) == 253


def test_what_is_exact_and_what_is_refused() -> None:
    exact = judge(BY_NAME["Leaky(beta=0.9)"], coverage_snntorch.precise)
    assert (exact.status, exact.different) == ("exact", 0)
    assert exact.spikes > 0
    assert exact.on_chip.startswith("approximate: ")
    refused = judge(BY_NAME["DeltaLeaky(beta=beta1)"], coverage_snntorch.precise)
    assert (refused.status, refused.instead) == ("refused", "exact")
    assert "use Leaky" in refused.message
    rows = [{**vars(v), "name": "n", "count": 2} for v in (exact, refused)]
    assert f"| `n` | 2 | exact ({exact.spikes} spikes) |" in table(rows)
    assert "use Leaky; done so: exact" in table(rows)


def test_a_network_that_is_read_wrong_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    read = hw_targets.from_torch

    def wrong(*arguments: Any, **options: Any) -> Network:
        network = read(*arguments, **options)
        firing = [
            replace(p, neuron=replace(p.neuron, v_threshold=0.9)) if isinstance(p.neuron, LIF) else p
            for p in network.populations
        ]
        return replace(network, populations=tuple(firing))

    monkeypatch.setattr(hw_targets, "from_torch", wrong)
    found = judge(BY_NAME["Leaky(beta=0.9)"], coverage_snntorch.precise)
    assert found.status == "wrong"
    assert found.different > 0
    assert "**wrong**" in table([{**vars(found), "name": "n", "count": 1}])
