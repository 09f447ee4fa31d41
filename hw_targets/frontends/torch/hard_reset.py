"""A framework's neuron on a chip whose neurons reset to zero within the step they fire in."""

from __future__ import annotations

from hw_targets.errors import UnsupportedModel
from hw_targets.ir.network import LIF
from neuroprune.frameworks import NeuronEquation


def as_lif(equation: NeuronEquation, *, approximate: bool) -> tuple[LIF, str | None]:
    """The chip's neuron for an equation, and a sentence on what was approximated (None: nothing).

    Raises:
        UnsupportedModel: another reset, unless `approximate`; the message says how to get the chip's.
    """
    neuron = LIF(
        equation.v_threshold,
        v_decay=equation.v_decay,
        i_decay=equation.i_decay,
        strict=equation.strict,
        unit=equation.unit,
    )
    if equation.resets_to_zero:
        return neuron, None
    if not approximate:
        raise UnsupportedModel(
            f"{_reset(equation)}, but the chip's neurons reset to zero in the step they fire; train with a hard"
            f" reset, {equation.hard_reset}, or pass approximate=True, which resets to"
            " zero anyway (spike_difference measures what that does)"
        )
    return neuron, f"{_reset(equation)}; here it resets to zero in the step it fires"


def _reset(equation: NeuronEquation) -> str:
    how = {"zero": "resets to zero", "subtract": "resets by subtraction", "none": "never resets"}[equation.reset]
    return f"{how} one step late (reset_delay=True)" if equation.reset_delay else how
