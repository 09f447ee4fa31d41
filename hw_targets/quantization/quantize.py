"""Real weights to a chip's integers.

Each population has one scale, the integer that stands for 1.0 of membrane potential: weights, bias and threshold are
rounded on it, and zeros stay zero (`scales` says which one). With calibration data each weight is rounded up or down
such that the errors of a neuron cancel on what it is sent (`rounding`), and then, layer by layer, such that the fewest
spikes differ from the real network's (`descent`). Decays are rounded to what the chip holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.chips.target import FormatConstraints, Together
from hw_targets.errors import QuantizationError, check_type
from hw_targets.ir.dynamics import Dynamics
from hw_targets.ir.formats import NumberFormats
from hw_targets.ir.network import ChipNetwork, ChipNeuron, Network, Population
from hw_targets.passes.saturation import saturated
from hw_targets.quantization.calibration import Calibration
from hw_targets.quantization.given_scales import check_together, on_scales
from hw_targets.quantization.lowering import lowered
from hw_targets.quantization.rounder import Rounder
from hw_targets.quantization.rounding import with_integers
from hw_targets.quantization.scales import ScaleChooser, Scaled


def quantize(
    network: Network,
    chip: Chip,
    calibration: npt.ArrayLike | None = None,
    *,
    scales: Mapping[str, float] | None = None,
    for_format: str | None = None,
    approximate: bool = False,
) -> ChipNetwork:
    """Round a network to the integers of a chip, each population on a scale of its own.

    Values far above the threshold, which a batch-norm gives channels that were nearly silent while training, are first
    made as small as they can be without a spike's difference (`saturation`). Those that remain and leave the others no
    integers are clipped where calibration shows that this changes few spikes, and `notes` say what and how many;
    otherwise they are refused by name.

    Args:
        network: real weights.
        chip: says whose neurons it has, and how wide their integers are.
        calibration: some inputs of the kind the network will see, as `emulate` takes them: (N, C, H, W), shown in every
            step, or (T, N, C, H, W); training images, never those it is judged by. A few hundred are enough. Scales and
            rounding then follow from what they make the network send; the result is the same in every run. It takes
            seconds a population, half a minute at most: of large ones fewer samples are looked at, and of the largest
            only scale and biases are fitted, which `notes` say. What the network sends is held in memory, 2 bytes for
            each neuron, step and sample. None: the largest scale that fits and the nearest integers.
        scales: by population, what the network was fine-tuned on (`prepare_qat`), instead of calibration: its weights
            are whole numbers there.
        for_format: a file format of the chip's target in which the integers will be written, such as "netx". It may
            ask for more than the chip does, at the cost of resolution: netx for one threshold in all populations of a
            layer, and a low one where spikes are relayed past it. None: they are the chip's alone.
        approximate: let neurons without a counterpart on the chip reset to zero in the step they fire; `notes` name
            them.

    Raises:
        InvalidChip: a chip that is known by its limits alone, so that its integers are not known.
        UnsupportedModel: neurons that the chip does not have; the message names them, and what to use instead.
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
    target = chip.supported("quantize")
    constraints = None if for_format is None else target.constraints(for_format)
    if (own := target.integers(network, chip, approximate=approximate)) is not None:
        if scales is not None:
            raise QuantizationError(
                f"quantize: got scales, but {chip.name}'s integers are not searched for; leave them out"
            )
        return replace(own, chip=chip.name, file_format=for_format or "")
    network = lowered(network, target.dynamics, approximate=approximate)
    found = quantized(network, target.dynamics, target.formats(chip), calibration, scales, constraints)
    return replace(found, chip=chip.name, file_format=for_format or "")


def quantized(
    network: Network,
    dynamics: Dynamics,
    formats: NumberFormats,
    calibration: npt.ArrayLike | None = None,
    scales: Mapping[str, float] | None = None,
    constraints: FormatConstraints | None = None,
) -> ChipNetwork:
    """As `quantize`, for given dynamics and formats."""
    if scales is None:
        network = saturated(network)
    rounder = Rounder(
        network,
        formats,
        dynamics,
        None if calibration is None else Calibration(network, calibration),
        joins_weights=constraints is not None and constraints.joins_weights,
    )
    groups = tuple(Together((name,)) for name in network.order if not network[name].is_input)
    if constraints is not None:
        groups = constraints.together(network, formats.weight)
    if scales is None:
        found = _group_by_group(ScaleChooser(rounder), groups)
    else:
        found = on_scales(rounder, scales)
        if constraints is not None:
            check_together(network, scales, groups)
    chosen = {name: one.scale for name, one in found.items()}
    integers = {name: one.integers for name, one in found.items()}
    return ChipNetwork(
        tuple(
            p if p.is_input else rounder.population(p, chosen[p.name], integers[p.name]) for p in network.populations
        ),
        tuple(with_integers(s, integers[s.target].weights[id(s)]) for s in network.synapses),
        time_steps=network.time_steps,
        scales={**{p.name: p.neuron.unit_sent for p in network.inputs}, **chosen},
        notes=(
            *network.notes,
            *(note for p in network.populations for note in _rounded_decays(p, formats)),
            *(note for one in found.values() for note in one.notes),
        ),
        readout_dynamics=dynamics,
    )


def dequantize(network: ChipNetwork) -> Network:
    """The real-valued network a chip network stands for: integers divided by their scales."""
    populations = []
    for p in network.populations:
        scale = network.scales[p.name]
        neuron = p.neuron
        if isinstance(neuron, ChipNeuron):
            neuron = neuron.dynamics.lift(neuron, scale)
        bias = None if p.bias is None else p.bias.astype(np.float64) / scale
        populations.append(replace(p, neuron=neuron, bias=bias))
    synapses = []
    for s in network.synapses:
        unit = network.scales[s.target] / network[s.source].neuron.unit_sent
        synapses.append(replace(s, op=replace(s.op, weight=s.op.weight.astype(np.float64) / unit)))
    return Network(tuple(populations), tuple(synapses), time_steps=network.time_steps, notes=network.notes)


def _group_by_group(chooser: ScaleChooser, groups: tuple[Together, ...]) -> dict[str, Scaled]:
    """Scales and integers, sources first; those that a file format gives one threshold together."""
    found: dict[str, Scaled] = {}
    for group in groups:
        found |= chooser.together([chooser.network[name] for name in group.members], group.most)
    return found


def _rounded_decays(population: Population, formats: NumberFormats) -> Iterator[str]:
    neuron, unity = population.lif, formats.decay_unity
    if neuron is not None:
        for kind, decay in (("potential", neuron.v_decay), ("current", neuron.i_decay)):
            units = formats.decay(decay)
            if units / unity != decay:
                yield f"{population.name}: the decay of its {kind}, {decay:.7g}, is {units}/{unity} on the chip"
