"""Synaptic operations of a model as a number that a pruner can prune to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from torch import nn

from neuroprune._numbers import check_whole
from neuroprune.frameworks import framework_of
from neuroprune.synops.counter import check_steps, count_synops
from neuroprune.synops.inputs import check_model
from neuroprune.synops.result import SynOps


def synops_per_sample(
    model: nn.Module,
    inputs: Any,
    samples: int,
    *,
    forward: Callable[[nn.Module, Any], object] | None = None,
    time_steps: int = 1,
    analog_input: bool = False,
    uncounted: Collection[str] = (),
) -> Callable[[], float]:
    """A measure for `prune_to_budget`: what `count_synops` reports of a model in evaluation mode, over the samples.

    Each call resets the model's neurons before and after, and leaves every module in the mode it was in.

    Args:
        model: as for `count_synops`, and so is all else.
        inputs: likewise; a few hundred samples.
        samples: how many there are in `inputs`: which axis that is only the model knows.
        forward: likewise.
        time_steps: likewise.
        analog_input: likewise.
        uncounted: names of what the measure may leave out, of those that `count_synops` gives as `uncounted`.

    Raises:
        TypeError: the model is no module.
        ValueError: `samples` below 1, or what `count_synops` refuses of the arguments; when it measures, as that, and
            where no layer reads spikes, or one is not counted that `uncounted` does not name.
    """
    check_model("synops_per_sample", model)
    framework = framework_of(model)
    samples = check_whole("synops_per_sample", "samples", samples)
    time_steps = check_steps("synops_per_sample", forward, time_steps)

    def measure() -> float:
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            if framework is not None:
                framework.reset(model)
            found = count_synops(model, inputs, forward=forward, time_steps=time_steps, analog_input=analog_input)
            _check(found, uncounted)
            return found.total / samples
        finally:
            if framework is not None:
                framework.reset(model)
            for module, training in modes:
                module.training = training

    return measure


def _check(found: SynOps, uncounted: Collection[str]) -> None:
    """Refuse a number that does not hold all of the model, or nothing of it.

    Raises:
        ValueError: it is such.
    """
    if left := [name for name in found.uncounted if name not in uncounted]:
        raise ValueError(
            f"synops_per_sample: the synaptic operations of {', '.join(left)} are not counted, so that a budget would"
            f" not hold them; to measure the rest alone, say so with uncounted={found.uncounted!r}"
        )
    if all(layer.kind in ("real", "unused") for layer in found.layers.values()):
        raise ValueError(
            f"synops_per_sample: no synaptic operations are counted in this model: its layers read real values,"
            f" {found.macs} multiply-accumulates in all, and none reads spikes; use prune_to(sparsity), or a measure"
            " of your own"
        )
