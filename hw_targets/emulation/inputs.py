"""What a network is shown, in any layout that its model takes, as whole numbers in every step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hw_targets.errors import InvalidNetwork
from hw_targets.ir.network import ChipNetwork, Network, Population, Shape


def as_spikes(network: ChipNetwork | Network, inputs: Tensor | npt.NDArray[Any], *, static: bool) -> Tensor:
    """Integers (T, N, *shape) that the input population sends.

    Args:
        network: with one input population.
        inputs: (T, N, *shape); (N, *shape) or one image of the input's shape, shown in every step; signals (C, L) for
            an input (C, 1, L); for a network whose model takes time last (N, *shape, T), too; for one whose model
            takes it second (N, T, *shape), and no other axis of time.
        static: show (N, *shape) in every step although the network's model was read from frames that change.

    Raises:
        InvalidNetwork: another shape, values that the input does not send, or frames that may not be meant to stay.
    """
    entry, second = network.inputs[0], network.inputs[0].neuron.time_second
    # torch has no tensors that step backwards through memory.
    values = inputs.detach() if isinstance(inputs, Tensor) else torch.as_tensor(_numbers(inputs))
    spikes = _whole_numbers(entry, values)
    shape = tuple(values.shape)
    for form in _forms(entry.shape):
        rest = len(shape) - len(form)
        if rest == 2 and _is_last(network, form, shape):
            return spikes.movedim(-1, 0).reshape(network.time_steps, shape[0], *entry.shape)
        if shape[rest:] != form or rest not in (0, 1, 2) or (rest == 2 and shape[second] != network.time_steps):
            continue
        if rest == 2:
            turned = spikes.transpose(0, 1) if second else spikes
            return turned.reshape(*turned.shape[:2], *entry.shape)
        _check_static(network, shape, static=static)
        images = spikes.reshape(-1, *entry.shape) if rest else spikes.reshape(1, *entry.shape)
        return images.expand(network.time_steps, *images.shape)
    last = ", time may come last" if entry.neuron.time_last else ""
    raise InvalidNetwork(
        f"emulate: inputs of shape {shape} do not fit {entry.name} {entry.shape}; expected (N, *shape), shown in every"
        f" step, or {_layout(entry, '*shape')} with T = {network.time_steps}{last}"
    )


def _numbers(inputs: Any) -> npt.NDArray[Any]:
    """What is no tensor, as an array.

    Raises:
        InvalidNetwork: it holds something else than numbers.
    """
    values = np.ascontiguousarray(inputs)
    if values.dtype.kind not in "biuf":
        raise InvalidNetwork(
            f"emulate: got a {type(inputs).__name__} of {values.dtype} as inputs, expected a tensor or an array of"
            " numbers"
        )
    return values


def with_steps(network: ChipNetwork | Network, inputs: Tensor | npt.NDArray[Any]) -> ChipNetwork | Network:
    """The network with as many steps as its inputs have, where nobody said how many a sample lasts.

    Raises:
        InvalidNetwork: the inputs do not say it either.
    """
    if not isinstance(network, ChipNetwork) or not network.steps_assumed:
        return network
    shape, entry = tuple(np.shape(inputs)), network.inputs[0]
    if shape[2:] not in _forms(entry.shape):
        raise InvalidNetwork(
            f"emulate: how many steps a sample lasts is unknown, and inputs of shape {shape} do not say it; pass inputs"
            f" (T, N, *{entry.shape}), or time_steps to read_netx"
        )
    return replace(network, time_steps=max(1, shape[0]), steps_assumed=False)


def _forms(shape: Shape) -> tuple[Shape, ...]:
    """Shapes of a sample: the network's, and that of a signal (C, L), which it holds as (C, 1, L)."""
    is_signal = len(shape) == 3 and shape[1] == 1
    return (shape, (shape[0], shape[2])) if is_signal else (shape,)


def _is_last(network: ChipNetwork | Network, form: Shape, shape: Shape) -> bool:
    neuron = network.inputs[0].neuron
    return neuron.time_last and shape[1:-1] == form and shape[-1] == network.time_steps


def _check_static(network: ChipNetwork | Network, shape: Shape, *, static: bool) -> None:
    entry = network.inputs[0]
    if not entry.neuron.changes or static or network.time_steps == 1:
        return
    raise InvalidNetwork(
        f"emulate: inputs of shape {shape} have no axis of time, but the network was read from a model whose input"
        f" changes from step to step (T = {network.time_steps}), so that they may be one frame of several; pass"
        f" {_layout(entry, f'*{entry.shape}')}, or static=True to show them in every step"
    )


def _layout(entry: Population, core: str) -> str:
    """How inputs with steps are laid out, in words."""
    return f"(N, T, {core}) as its model takes them" if entry.neuron.time_second else f"(T, N, {core})"


def _whole_numbers(entry: Population, values: Tensor) -> Tensor:
    top, unit = entry.neuron.most_sent, 1.0
    if values.is_floating_point() and entry.neuron.is_graded:
        unit = entry.neuron.unit_sent
        values = values.double().mul(unit).round()
    low, high = 0.0, 0.0
    if values.numel() and not (values.dtype == torch.uint8 and top == 255):
        low, high = (float(extreme) for extreme in torch.aminmax(values))
    if not (low >= 0 and high <= top) or (values.is_floating_point() and bool((values != values.round()).any())):
        raise InvalidNetwork(
            f"emulate: {entry.name} takes integers 0 … {top} (or, for images, reals 0 … 1); got values in"
            f" {low / unit:.4g} … {high / unit:.4g}"
        )
    return values.to(torch.uint8 if top <= 255 else torch.int32)
