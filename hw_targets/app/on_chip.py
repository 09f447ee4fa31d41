"""What a model costs on a chip as a number that a pruner can prune to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from torch import nn

from hw_targets.app.stages import map_network
from hw_targets.chips.chip import Chip
from hw_targets.errors import HardwareTargetError, InvalidChip
from hw_targets.estimation import Estimate
from hw_targets.frontends.torch.from_torch import from_torch
from hw_targets.placement import Placement
from hw_targets.quantization.to_chip import to_chip
from hw_targets.targets.registry import load_chip

Cost = Literal["energy", "time", "cores", "synaptic events"]

#: How each cost is read from a placement and its estimate; energy and time are unknown where no price is published.
_READ: Mapping[Cost, Callable[[Placement, Estimate], float | None]] = {
    "energy": lambda _, estimated: estimated.energy,
    "time": lambda _, estimated: estimated.time,
    "cores": lambda placement, _: float(placement.core_count),
    "synaptic events": lambda _, estimated: estimated.per_sample["synaptic_events"],
}


def on_chip(
    model: nn.Module,
    inputs: Any,
    chip: str | Chip,
    cost: Cost,
    *,
    time_steps: int = 1,
    approximate: bool = False,
) -> Callable[[], float]:
    """A measure for `neuroprune.prune_to_budget`: the model as it is then, read, quantized, placed and estimated.

        measure = on_chip(model, images, "loihi1", "energy", time_steps=4)
        pruner = prune_to_budget(2e-6, measure, optimizer, steps=steps)

    Each call reads the model in evaluation mode (`from_torch`), fits its integers to `inputs` (`to_chip`), runs them on
    `inputs`, places them and adds up (`emulate`, `place`, `estimate`): the very numbers that are reported of it
    afterwards. It takes as long as these do. Every module is left in the mode it was in, its neurons reset.

    Args:
        model: as for `from_torch`.
        inputs: as for `from_torch`, a few dozen samples.
        chip: its name, its file, or what `load_chip` gives.
        cost: "energy" in joules and "time" in seconds, per sample; "cores"; "synaptic events" per sample.
        time_steps: as for `from_torch`.
        approximate: as for `to_chip`.

    Raises:
        HardwareTargetError: at once, where the model cannot be put on the chip or its cost there is not published; the
            message says which.
    """
    if not isinstance(cost, str) or cost not in _READ:
        raise HardwareTargetError(f"on_chip: cost must be one of {', '.join(get_args(Cost))}, got {cost!r}")
    found = chip if isinstance(chip, Chip) else load_chip(chip)

    def measure() -> float:
        modes = [(module, module.training) for module in model.modules()]
        try:
            network = from_torch(model.eval(), inputs, time_steps=time_steps)
            mapped = map_network(to_chip(network, found, inputs, approximate=approximate), (found,), inputs)
            value = _READ[cost](mapped.placements[found.name], mapped.estimates[found.name])
        finally:
            for module, training in modes:
                module.training = training
        if value is None:
            raise InvalidChip(
                f"on_chip: the {cost} of {found.name} is unknown: not every price that it takes is published; ask for"
                " cores or synaptic events"
            )
        return value

    measure()
    return measure
