"""What a chip's neurons may receive and send, as changes of a recipe."""

from __future__ import annotations

from hw_targets.targets.registry import load_chip
from neuroprune.pruning.fan_in import limits_of
from neuroprune.training.toml import InvalidRecipe


def caps_of(chip: str) -> tuple[str, ...]:
    """Changes such as "pruning.fan_out=64" with which training keeps to a chip's limits on the synapses of a neuron.

    They are those that `SoftThresholdPruner(caps=load_chip(chip))` takes; in a recipe they are numbers, so that a run
    says what it was held to.

    Raises:
        InvalidRecipe: the chip states no such limit.
        UnknownChip, InvalidFile: as `load_chip`.
    """
    try:
        limits = limits_of(None, None, load_chip(chip))
    except ValueError as error:
        raise InvalidRecipe(
            f"train --chip {chip}: {error}".replace("fan_in=Cap(...)", "--set pruning.fan_in=N")
        ) from error
    assert limits is not None
    named = ("fan_in", limits.fan_in), ("fan_out", limits.fan_out)
    return tuple(f"pruning.{key}={cap.limit}" for key, cap in named if cap is not None)
