"""Xylo's arithmetic as torch functions: forward in the chip's integers, held in float32, backward in real numbers.

Every state is a whole number below 2^24, and so are sums of weights times spikes: float32 holds all of them exactly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hw_targets.targets.xylo.arithmetic import HIGH, LOW, WEIGHT_HIGH

#: How fast a spike's surrogate derivative falls off on the way from a threshold.
STEEPNESS = 4.0


def whole(values: Tensor, unit: float, limit: int) -> Tensor:
    """clip(round(values·unit), ±limit), whole numbers; backward as if nothing were rounded, 0 beyond the limit."""
    scaled = (values * unit).clamp(-limit, limit)
    return scaled + (scaled.round() - scaled).detach()


def weights_of(values: Tensor, unit: float) -> Tensor:
    """8-bit weights of real ones; −128 is left out, so that signs are alike."""
    return whole(values, unit, WEIGHT_HIGH)


class Decay(torch.autograd.Function):
    """x − decrement(x) for a shift of `dash` bits, of which the derivative is 1 − 2^−dash."""

    @staticmethod
    def forward(context: Any, x: Tensor, dash: int) -> Tensor:
        """See the class. A potential of −32768 of which all is taken (`dash` 0) comes to −65536, as on the chip."""
        context.kept = 1.0 - 2.0**-dash
        taken = torch.floor(x * 2.0**-dash)
        taken = torch.where(taken == 0.0, torch.sign(x), taken)
        taken = torch.where(taken == LOW, -taken, taken)
        return x - taken

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """As of a multiplication."""
        return gradients[0] * context.kept, None


class Spikes(torch.autograd.Function):
    """n = clip(⌊v / threshold⌋, 0, most).

    dn/dv is taken to be 1/threshold where more than one spike may be sent and v is above the threshold (a straight
    line through the stairs), and (1 + 4·|v/threshold − 1|)^−2 of that elsewhere: the fast sigmoid of Zenke and Ganguli,
    2018.
    """

    @staticmethod
    def forward(context: Any, vmem: Tensor, threshold: int, most: int) -> Tensor:
        """See the class."""
        context.save_for_backward(vmem)
        context.threshold, context.most = threshold, most
        return torch.floor(vmem / threshold).clamp(0.0, float(most))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """As in the class."""
        (vmem,) = context.saved_tensors
        distance = vmem / context.threshold - 1.0
        if context.most > 1:
            distance = distance.clamp(max=0.0)
        slope = (1.0 + STEEPNESS * distance.abs()).pow(-2) / context.threshold
        return gradients[0] * slope, None, None


def decayed(x: Tensor, dash: int) -> Tensor:
    """`Decay`."""
    result: Tensor = Decay.apply(x, dash)  # type: ignore[no-untyped-call]  # torch's
    return result


def spikes_of(vmem: Tensor, threshold: int, most: int) -> Tensor:
    """`Spikes`."""
    result: Tensor = Spikes.apply(vmem, threshold, most)  # type: ignore[no-untyped-call]  # torch's
    return result


def received(isyn: Tensor, sent: Tensor, weights: Tensor, shift: int) -> tuple[Tensor, Tensor]:
    """Currents after spikes came through weights, each sum held in 16 bits; and where any was held, or may have been.

    Args:
        isyn: (N, targets), whole numbers in 16 bits.
        sent: (N, sources) spikes.
        weights: (targets, sources) 8-bit weights.
        shift: bits by which they are shifted.

    Returns:
        (N, targets), and a mask of that shape: where the sum of all terms, taken as positive, leaves 16 bits, the terms
        are added one by one in the order of their sources, as on the chip.
    """
    total = isyn + (sent @ weights.t()) * float(1 << shift)
    # What is only looked at is no work of the network: who counts its operations shall not see it.
    with torch.no_grad(), torch._C.DisableTorchFunction():
        largest = isyn.abs() + (sent @ weights.abs().t()) * float(1 << shift)
        outside = largest > HIGH
        if not bool(outside.any()):
            return total, outside
        exact = _one_by_one(isyn, sent, weights * float(1 << shift), outside)
    held = total.clamp(LOW, HIGH)
    return held + (torch.where(outside, exact, held) - held).detach(), outside & (exact != total)


def _one_by_one(isyn: Tensor, sent: Tensor, weights: Tensor, where: Tensor) -> Tensor:
    """Currents of the neurons of a mask, their terms added in order and held in 16 bits after each."""
    sample, target = where.nonzero(as_tuple=True)
    current, result = isyn[sample, target], isyn.clone()
    terms = weights[target] * sent[sample]
    for source in range(terms.shape[1]):
        current = (current + terms[:, source]).clamp(LOW, HIGH)
    result[sample, target] = current
    return result


def charged(vmem: Tensor, current: Tensor, bias: Tensor | None, dash: int) -> tuple[Tensor, Tensor]:
    """Potentials before they may fire, and where a sum was held in 16 bits."""
    change = decayed(vmem, dash) - vmem + current
    with torch.no_grad():
        held = (change < LOW) | (change > HIGH)
    change = change.clamp(LOW, HIGH)
    if bias is not None:
        with torch.no_grad():
            held |= ((change + bias) < LOW) | ((change + bias) > HIGH)
        change = (change + bias).clamp(LOW, HIGH)
    total = vmem + change
    with torch.no_grad():
        held |= (total < LOW) | (total > HIGH)
    return total.clamp(LOW, HIGH), held
