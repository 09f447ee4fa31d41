"""Real weights to a chip's integers.

Each population has one scale, the integer that stands for 1.0 of membrane potential: weights, bias and threshold are
rounded on it, and zeros stay zero (`scales` says which one). With calibration data each weight is rounded up or down
such that the errors of a neuron cancel on what it is sent (`rounding`), and then, layer by layer, such that the fewest
spikes differ from the real network's (`descent`). Decays are rounded to 1/4096.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.errors import QuantizationError, check_type
from hw_targets.ir.network import LIF, ChipNetwork, CubaLIF, Network, Population
from hw_targets.passes.saturation import saturated
from hw_targets.quantization.calibration import Calibration
from hw_targets.quantization.given_scales import on_scales
from hw_targets.quantization.number_formats import DECAY_UNITY, NumberFormats, number_formats
from hw_targets.quantization.rounder import Rounder, has_fractions
from hw_targets.quantization.rounding import input_scale, with_integers
from hw_targets.quantization.scales import ScaleChooser, Scaled
from hw_targets.targets.loihi.netx.layers import assign_layers, crossings


def quantize(
    network: Network,
    chip: Chip,
    calibration: npt.ArrayLike | None = None,
    *,
    scales: Mapping[str, float] | None = None,
) -> ChipNetwork:
    """Round a network to the integers of a Loihi-like chip.

    Populations that share a netx layer get the same integer threshold; in a layer that relays spikes it is at most the
    largest weight, so that a relay can fire from one spike.

    Values far above the threshold, which a batch-norm gives channels that were nearly silent while training, are first
    made as small as they can be without a spike's difference (`saturation`). Those that remain and leave the others no
    integers are clipped where calibration shows that this changes few spikes, and `notes` say what and how many;
    otherwise they are refused by name.

    Args:
        network: real weights.
        chip: says how wide its integers are.
        calibration: some inputs of the kind the network will see, as `emulate` takes them: (N, C, H, W), shown in every
            step, or (T, N, C, H, W); training images, never those it is judged by. A few hundred are enough. Scales and
            rounding then follow from what they make the network send; the result is the same in every run. It takes
            seconds a population, half a minute at most: of large ones fewer samples are looked at, and of the largest
            only scale and biases are fitted, which `notes` say. What the network sends is held in memory, 2 bytes for
            each neuron, step and sample. None: the largest scale that fits and the nearest integers.
        scales: by population, what the network was fine-tuned on (`prepare_qat`), instead of calibration: its weights
            are whole numbers there.

    Raises:
        QuantizationError: a population for which no scale fits: the message names it and the limit that binds. With
            `scales`, weights that are no whole numbers on them, or calibration besides.
        InvalidNetwork: calibration data of another shape or range, or none at all.
    """
    check_type("quantize", network, Network, "the network that from_torch gives")
    check_type("quantize", chip, Chip, "what load_chip(name) gives")
    if scales is not None and calibration is not None:
        raise QuantizationError(
            "quantize: got scales and calibration; calibration finds scales, so give one of the two"
        )
    formats = number_formats(chip)
    if scales is None:
        network = saturated(network)
    rounder = Rounder(network, formats, None if calibration is None else Calibration(network, calibration))
    found = _layer_by_layer(network, ScaleChooser(rounder)) if scales is None else on_scales(rounder, scales)
    chosen = {name: one.scale for name, one in found.items()}
    integers = {name: one.integers for name, one in found.items()}
    return ChipNetwork(
        tuple(
            p if p.is_input else rounder.population(p, chosen[p.name], integers[p.name]) for p in network.populations
        ),
        tuple(with_integers(s, integers[s.target].weights[id(s)]) for s in network.synapses),
        chip=chip.name,
        time_steps=network.time_steps,
        scales={**{p.name: input_scale(p) for p in network.inputs}, **chosen},
        notes=(
            *network.notes,
            *(note for p in network.populations for note in _rounded_decays(p, formats)),
            *(note for one in found.values() for note in one.notes),
        ),
    )


def dequantize(network: ChipNetwork) -> Network:
    """The real-valued network a chip network stands for: integers divided by their scales."""
    populations = []
    for p in network.populations:
        scale = network.scales[p.name]
        neuron = p.neuron
        if isinstance(neuron, CubaLIF):
            # Half a unit of v below the smallest value that fires, so that the rounding of reals cannot matter.
            level = neuron.v_threshold + (0.5 / 64 if has_fractions(neuron) else 0.5)
            neuron = LIF(level / scale, neuron.v_decay / DECAY_UNITY, i_decay=neuron.i_decay / DECAY_UNITY)
        bias = None if p.bias is None else p.bias.astype(np.float64) / scale
        populations.append(replace(p, neuron=neuron, bias=bias))
    synapses = []
    for s in network.synapses:
        unit = network.scales[s.target] / input_scale(network[s.source])
        synapses.append(replace(s, op=replace(s.op, weight=s.op.weight.astype(np.float64) / unit)))
    return Network(tuple(populations), tuple(synapses), time_steps=network.time_steps, notes=network.notes)


def _layer_by_layer(network: Network, chooser: ScaleChooser) -> dict[str, Scaled]:
    layers = assign_layers(network)
    relayed = crossings(network, layers)
    found: dict[str, Scaled] = {}
    for layer in sorted(set(layers.values())):
        members = [network[name] for name in network.order if layers[name] == layer and not network[name].is_input]
        found |= chooser.layer(members, has_relays=layer in relayed)
    return found


def _rounded_decays(population: Population, formats: NumberFormats) -> Iterator[str]:
    neuron = population.neuron
    if isinstance(neuron, LIF):
        for kind, decay in (("potential", neuron.v_decay), ("current", neuron.i_decay)):
            units = formats.decay(decay)
            if units / DECAY_UNITY != decay:
                yield f"{population.name}: the decay of its {kind}, {decay:.7g}, is {units}/4096 on the chip"
