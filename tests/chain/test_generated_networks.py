"""Hundreds of networks made up at random: torch's own spikes, the emulator's and Lava's are the same, all of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import layer, neuron
from torch import nn

from examples.benchmarks.chip_truth import torch_networks
from examples.benchmarks.truth.chips import ChipCase
from examples.benchmarks.truth.finding import Finding, Tally, checked
from examples.benchmarks.truth.lava_path import Exported, compare_trace, export_case, exported
from examples.benchmarks.truth.tape import Tape, shrink
from examples.benchmarks.truth.torch_path import check_torch
from hw_targets import export_netx, from_torch
from hw_targets.emulation import currents as emulate_currents
from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import maps
from hw_targets.ir.network import Accumulator, ChipNetwork, Conv2d, Dense, Population, SpikeInput, Synapses
from hw_targets.targets.loihi.dynamics import engine as loihi_engine
from hw_targets.targets.loihi.dynamics import float_states as emulate_floats
from hw_targets.targets.loihi.dynamics import step as loihi_step
from hw_targets.targets.loihi.netx.clock import NetxClock
from hw_targets.targets.loihi.neuron import CubaLIF
from tests.builders.lava import LavaProcess

MODELS, LAVA_NETWORKS = 150, 20

#: What at least five of the torch models have.
IN_MODELS = (
    *("multi-step", "single-step", "hidden", "loop", "images", "spikes", "more than one sample"),
    *("T = 1", "T of 2 … 8", "T of 9 … 20", "T of 21 … 64"),
    *("conv", "stride", "padding", "dilation", "groups", "linear", "flatten", "bias", "batch-norm"),
    *("average pool", "pool before conv", "max-pool"),
    *("SEW ADD", "SEW AND", "SEW IAND", "shortcut of currents", "readout"),
    *("no zeros", "up to 50 % zeros", "up to 90 % zeros", "above 90 % zeros", "all zeros"),
    *("IF", "LIF", "LIF with input decay", "PLIF", "PLIF with input decay", "CUBA-LIF"),
    *("Leaky", "Leaky that never forgets", "Leaky that forgets", "Synaptic"),
    *("the chip rounds", "potentials clipped", "heavy weight"),
)
#: What at least two of Lava's networks have.
IN_LAVA = (
    *("from torch", "in integers", "images", "spikes", "several samples in a row", "other reset offset", "relays"),
    *("conv", "stride", "padding", "dilation", "groups", "linear", "readout", "bias", "bias per neuron"),
    *("leaky", "forgets", "lasting current", "delays", "recurrence", "recurrence with delays"),
    *("neurons on the input", "SEW ADD over relays", "SEW ADD", "all zeros", "no zeros", "above 90 % zeros"),
)


def missing(features: Counter[str], wanted: Sequence[str], at_least: int) -> dict[str, int]:
    """Features that occurred too seldom, and how often."""
    return {name: features[name] for name in wanted if features[name] < at_least}


def in_full(failures: list[dict[str, Any]]) -> str:
    """Failures as text: seed, smallest tape that fails, network and where it differs."""
    return json.dumps(failures, indent=1, ensure_ascii=False)


# --- torch ------------------------------------------------------------------------------------------------------------


def test_every_torch_model_spikes_as_the_emulator_says() -> None:
    tally = torch_networks(MODELS)
    assert not tally.failures, in_full(tally.failures)
    assert tally.differing == 0
    assert tally.networks >= 0.9 * MODELS, tally.refusals
    assert tally.spikes > 50_000
    assert 0.02 < tally.spikes / tally.positions < 0.9
    assert not missing(tally.features, IN_MODELS, 5)
    # Where the chip rounds, a model that does not is close.
    assert tally.rounded_of > 10_000
    assert tally.rounded <= 0.01 * tally.rounded_of


# --- the suite can fail -----------------------------------------------------------------------------------------------


def too_strong(state: Any, decay: int) -> Any:
    """Decays a 256th stronger than they are."""
    left = state * max(0, 4096 - decay - 16)
    return (left + ((left >> 63) & 4095)) >> 12


def late_threshold(step: Callable[..., Any]) -> Callable[..., Any]:
    """Leaky neurons that get one unit of the weights too little."""

    def changed(self: Any, a: Any, *args: Any) -> Any:
        return step(self, a - int(self.unit > 1), *args)

    return changed


def transposed(apply: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Kernels whose rows and columns are exchanged where they are square."""

    def changed(op: Any, *args: Any) -> torch.Tensor:
        weight = op.weight
        if weight.ndim == 4 and weight.shape[2] == weight.shape[3]:
            op = type(op)(weight.swapaxes(2, 3), op.stride, op.padding, op.dilation, op.groups)
        return apply(op, *args)

    return changed


def unscaled(back: Callable[..., NDArray[Any]]) -> Callable[..., NDArray[Any]]:
    """Average pools before a dense layer that forget to divide."""

    def changed(via: Any, weight: NDArray[Any], source: Any) -> NDArray[Any]:
        return back(via, weight, source) * (4.0 if isinstance(via, maps.AvgPool) else 1.0)

    return changed


def leaking_too_much(patch: pytest.MonkeyPatch) -> None:
    """In the reference step and in what the fast engines are told."""
    patch.setattr(loihi_step, "kept", too_strong)
    patch.setattr(loihi_engine, "kept", too_strong)


BROKEN: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "decays are 1/256 off": leaking_too_much,
    "one unit less arrives": lambda m: m.setattr(
        emulate_floats._States, "_charge", late_threshold(emulate_floats._States._charge)
    ),
    "no clipping": lambda m: m.setattr(loihi_engine, "LIMIT", 1 << 40),
    "transposed kernels": lambda m: m.setattr(emulate_currents, "apply", transposed(emulate_currents.apply)),
    "pools do not divide": lambda m: m.setattr(maps, "back", unscaled(maps.back)),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_emulator_is_found_out(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[fault](monkeypatch)
    assert first_with_faults().faults, f"{MODELS} networks did not show it"


def first_with_faults() -> Finding:
    """Of the generated models; the last one if none has any."""
    for seed in range(MODELS):
        finding = checked(check_torch, Tape(seed))
        if finding.faults:
            break
    return finding


def test_the_network_that_shows_a_fault_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN["no clipping"](monkeypatch)
    finding = first_with_faults()
    tape = shrink(finding.tape, lambda values: bool(checked(check_torch, Tape(0, values)).faults), attempts=12)
    smaller = checked(check_torch, Tape(0, tape))
    assert smaller.faults
    assert sum(tape) < sum(finding.tape)
    assert smaller.neurons <= finding.neurons


def test_a_tape_repeats_a_network_and_shrinks_to_the_least_that_fails() -> None:
    first = check_torch(Tape(5))
    again = check_torch(Tape(0, first.tape))
    assert (again.description, again.spikes, again.tape) == (first.description, first.spikes, first.tape)
    assert shrink([9, 4, 7, 30, 1], lambda tape: len(tape) > 2 and tape[2] > 3) == [0, 0, 7]
    assert shrink([8, 8], lambda tape: len(tape) < 3) == []


def test_what_fails_is_described_and_what_crashes_is_counted() -> None:
    def wrong(tape: Tape) -> Finding:
        size = tape.integer(1, 50)
        if size > 30:
            raise ZeroDivisionError("of size")
        return Finding(f"of size {size}", tape=tape.values)

    tally = Tally()
    for seed in range(20):
        tally.add(seed, checked(wrong, Tape(seed)), wrong)
    assert len(tally.failures) == tally.differing > 0
    assert tally.failures[0]["faults"] == ["ZeroDivisionError: of size"]
    assert 30 <= tally.failures[0]["tape"][0] < 60


# --- Lava -------------------------------------------------------------------------------------------------------------


def exported_networks(folder: Any) -> dict[int, Exported]:
    """By seed: LAVA_NETWORKS or more that can be exported, among them, if possible, two with each feature."""
    chosen: dict[int, Exported] = {}
    seen: Counter[str] = Counter()
    for seed in range(12 * LAVA_NETWORKS):
        one = export_case(Tape(seed), folder / f"{seed}.net")
        if isinstance(one, Finding):
            continue
        rare = [name for name in IN_LAVA if seen[name] < 2 and one.finding.features[name]]
        if rare or LAVA_NETWORKS - len(chosen) > len(missing(seen, IN_LAVA, 2)):
            chosen[seed] = one
            seen.update({name: 1 for name, count in one.finding.features.items() if count})
        if len(chosen) >= LAVA_NETWORKS and not missing(seen, IN_LAVA, 2):
            break
    return chosen


def grid_readout() -> ChipCase:
    """Sums read out on a grid, no side of which is like another: Lava records them as (W, H, C)."""
    shape, numbers = (2, 3, 4), np.random.default_rng(0)
    populations = (
        Population("in", shape, SpikeInput()),
        Population("n", shape, CubaLIF(20)),
        Population("out", shape, Accumulator()),
    )
    kernels = [Conv2d(numbers.integers(-40, 60, (2, 2, 1, 1)).astype(np.int32)) for _ in range(2)]
    synapses = (Synapses("in", "n", kernels[0]), Synapses("n", "out", kernels[1]))
    frames = numbers.integers(0, 2, (5, 2, *shape)).astype(np.int32)
    return ChipCase(ChipNetwork(populations, synapses, time_steps=5), frames, None, "a readout on a grid")


@pytest.fixture(scope="module")
def in_lava(
    tmp_path_factory: pytest.TempPathFactory, lava: LavaProcess
) -> dict[int, tuple[Exported, list[NDArray[np.int64]]]]:
    """Networks by seed, each with Lava's traces."""
    folder = tmp_path_factory.mktemp("netx")
    chosen = {**exported_networks(folder), -1: exported(grid_readout(), folder / "grid.net", [])}
    traces = lava.traces([one.job() for one in chosen.values()])
    return {seed: (one, trace) for (seed, one), trace in zip(chosen.items(), traces, strict=True)}


def tally_of(networks: dict[int, tuple[Exported, list[NDArray[np.int64]]]]) -> Tally:
    """Every network's traces against the emulator as it is now."""
    tally = Tally()
    for seed, (one, trace) in networks.items():
        tally.add(seed, compare_trace(one, trace))
    return tally


@pytest.mark.lava
def test_every_chip_network_spikes_as_in_lava_and_is_read_back(
    in_lava: dict[int, tuple[Exported, list[NDArray[np.int64]]]],
) -> None:
    tally = tally_of(in_lava)
    assert not tally.failures, in_full(tally.failures)
    assert tally.networks >= 20
    assert tally.spikes > 500
    assert not missing(tally.features, IN_LAVA, 2)


def resets_late(self: NetxClock, name: str) -> frozenset[int]:
    """Resets one step after they are due."""
    return frozenset(step + 1 for step in RESETS(self, name))


RESETS = NetxClock.resets


@pytest.mark.lava
@pytest.mark.parametrize("fault", ["decays are 1/256 off", "resets are late", "delays are ignored"])
def test_an_emulator_that_is_not_lavas_is_found_out(
    fault: str, in_lava: dict[int, tuple[Exported, list[NDArray[np.int64]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "decays are 1/256 off":
        leaking_too_much(monkeypatch)
    elif fault == "resets are late":
        monkeypatch.setattr(NetxClock, "resets", resets_late)
    else:
        monkeypatch.setattr(emulate_currents, "_by_delay", lambda synapses: [(0, synapses.op)])
    assert tally_of(in_lava).failures


# --- what generated networks have brought to light --------------------------------------------------------------------


@pytest.mark.parametrize("unused", ["a product", "neurons"])
def test_what_a_model_computes_but_does_not_return_is_no_output(unused: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.s, self.b, self.t = layer.Linear(3, 3), neuron.IFNode(), layer.Linear(3, 3), neuron.IFNode()
            self.c, self.u = layer.Linear(3, 2), neuron.IFNode()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = self.s(self.a(x))
            second: torch.Tensor = self.t(self.b(first))
            _ = first * second if unused == "a product" else self.u(self.c(second))
            return second

    network = from_torch(Model(), torch.full((2, 3), 0.5), time_steps=3)
    assert [p.name for p in network.populations] == ["input", "s", "t"]
    assert [p.name for p in network.outputs] == ["t"]


def test_a_delayed_loop_beside_another_number_of_inputs_is_not_written(tmp_path: Path) -> None:
    """Lava gives the one array of delays to both matrices, and stops on such a file."""
    delay = np.ones((3, 1), np.int64)
    populations = (Population("in", (2,), SpikeInput()), Population("n", (3,), CubaLIF(40)))
    synapses = tuple(
        Synapses(source, "n", Dense(np.full((3, size), 254, np.int32)), delay) for source, size in (("in", 2), ("n", 3))
    )
    with pytest.raises(UnsupportedModel, match=r"n is recurrent with delays.*got 2 and 3"):
        export_netx(ChipNetwork(populations, synapses), tmp_path / "loop.net")
    assert not any(tmp_path.iterdir())
