"""Values that neurons of one layer have each their own: decays and gains, told from tensors that broadcast."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.signals import Floats
from hw_targets.ir.network import Shape
from hw_targets.ir.ops import Array
from neuroprune.frameworks import NeuronEquation


def spread(values: Tensor, shape: Shape, what: str) -> Array:
    """One value per neuron, of `shape`, from a tensor that broadcasts to one step of the layer's input, (N, *shape).

    Raises:
        UnsupportedModel: it does not, or differs from sample to sample.
    """
    step = (shape[0], shape[2]) if len(shape) == 3 and shape[1] == 1 and values.dim() == 2 else shape
    try:
        spread_out = torch.broadcast_to(values, (1, *step))
    except RuntimeError as error:
        raise UnsupportedModel(
            f"has a {what} of shape {tuple(values.shape)} for neurons of shape {shape}; give one for all, or one per"
            " neuron"
        ) from error
    return np.asarray(spread_out.detach().cpu().double().numpy(), np.float64).reshape(shape)


def by_unit(values: Tensor | None, shape: Shape, what: str) -> tuple[float, ...]:
    """As few as say it: one value per channel, or one per neuron in C order; none for None."""
    if values is None:
        return ()
    found = spread(values, shape, what)
    first = found.reshape(shape[0], -1)
    if (first == first[:, :1]).all():
        return tuple(first[:, 0].tolist())
    return tuple(found.reshape(-1).tolist())


def gains(equation: NeuronEquation, shape: Shape) -> Floats:
    """What a neuron's input is multiplied by, so that one threshold holds for all of a layer: one value per channel.

    A neuron of threshold θᵢ fires and resets as one of threshold 1 whose input is divided by θᵢ.

    Raises:
        UnsupportedModel: values that differ between positions of a channel, whose weights are shared.
    """
    whole = np.ones(shape)
    if equation.input_gains is not None:
        whole = whole * spread(equation.input_gains, shape, "gain")
    else:
        whole = whole * equation.input_gain
    if equation.v_thresholds is not None:
        whole = whole / spread(equation.v_thresholds, shape, "threshold")
    found: Floats = whole.reshape(shape[0], -1)
    if not (found == found[:, :1]).all():
        raise UnsupportedModel(
            f"has thresholds or gains that differ between the positions of a channel of {shape}, which share their"
            " weights; give each channel one, of shape (C, 1, 1)"
        )
    return found[:, 0]
