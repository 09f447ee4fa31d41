"""Names that something else in a NIR graph wants, and kernels that nir takes for square: read back as meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_targets import emulate, from_nir, to_nir
from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.nir.writer import write_nir
from hw_targets.ir.network import LIF, Accumulator, Conv2d, Dense, Network, Population, SpikeInput, Synapses

STEPS, SHAPE = 3, (2, 6, 7)


def network(names: tuple[str, str, str], op: Conv2d, seed: int = 0) -> Network:
    """A convolution of spikes and a dense readout."""
    first, middle, last = names
    rng, grid = np.random.default_rng(seed), op.output_shape(SHAPE)
    populations = (
        Population(first, SHAPE, SpikeInput()),
        Population(middle, grid, LIF(0.7, v_decay=0.25)),
        Population(last, (4,), Accumulator()),
    )
    readout = Dense(rng.normal(size=(4, int(np.prod(grid)))))
    return Network(populations, (Synapses(first, middle, op), Synapses(middle, last, readout)), time_steps=STEPS)


def kernel(rows: int, columns: int, **options: Any) -> Conv2d:
    return Conv2d(np.random.default_rng(1).normal(size=(4, 2 // options.get("groups", 1), rows, columns)), **options)


def assert_the_same_after_a_file(before: Network, path: Path) -> None:
    write_nir(before, path, overwrite=True)
    after = from_nir(path)
    assert [p.name for p in after.populations] == [p.name for p in before.populations]
    spikes = np.random.default_rng(2).integers(0, 2, (STEPS, 3, *SHAPE))
    ours, theirs = emulate(before, spikes), emulate(after, spikes)
    for name, sent in ours.spikes.items():
        np.testing.assert_array_equal(theirs.spikes[name].reshape(sent.shape), sent)
    np.testing.assert_allclose(theirs.output, ours.output, rtol=1e-5, atol=1e-5)
    assert ours.output.any()


@pytest.mark.parametrize(
    "names",
    [
        ("input", "output", "fc"),
        ("image", "input", "output"),
        ("output", "input", "x"),
        ("image", "b.n", "b_n"),
        ("image", "b_n", "b.n"),
        ("image", "n1", "n1_in0"),
        ("image", "x_in0_flatten", "x"),
        ("image", "output_", "output"),
    ],
)
def test_names_that_something_else_has(names: tuple[str, str, str], tmp_path: Path) -> None:
    assert_the_same_after_a_file(network(names, kernel(3, 3, padding=(1, 1))), tmp_path / "model.nir")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_kernels_of_two_odd_or_two_even_sides(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    rows, columns = data.draw(st.sampled_from([(1, 3), (3, 1), (1, 5), (5, 3), (2, 4), (4, 2), (1, 1), (6, 2)]))
    stride, dilation, padding = (
        data.draw(st.tuples(st.integers(low, high), st.integers(low, high))) for low, high in ((1, 3), (1, 2), (0, 2))
    )
    op = kernel(
        rows, columns, stride=stride, dilation=dilation, padding=padding, groups=data.draw(st.sampled_from([1, 2]))
    )
    if min(op.output_shape(SHAPE)) < 1:
        return
    assert_the_same_after_a_file(network(("image", "n", "fc"), op), tmp_path_factory.getbasetemp() / "kernels.nir")


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 8])
def test_signals_of_one_row(columns: int, tmp_path: Path) -> None:
    """What a one-dimensional convolution becomes, its kernel even or odd."""
    weight = np.random.default_rng(0).normal(size=(3, 2, 1, columns))
    op = Conv2d(weight, stride=(1, 2))
    grid = op.output_shape((2, 1, 9))
    populations = (Population("in", (2, 1, 9), SpikeInput()), Population("n", grid, LIF(0.5)))
    before = Network(populations, (Synapses("in", "n", op),), time_steps=STEPS)
    write_nir(before, tmp_path / "m.nir")
    spikes = np.random.default_rng(2).integers(0, 2, (STEPS, 4, 2, 1, 9))
    np.testing.assert_array_equal(
        emulate(from_nir(tmp_path / "m.nir"), spikes).spikes["n"], emulate(before, spikes).spikes["n"]
    )


def test_an_even_and_an_odd_side_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="one of 2×3 cannot be padded to be"):
        to_nir(network(("image", "n", "fc"), kernel(2, 3)))
