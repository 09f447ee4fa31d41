"""Whole channels pruned: what saves memory on chips that keep a layer's kernel whole, as DYNAP-CNN does.

A channel is worth its L2 norm (Li et al., ICLR 2017, prune filters by the L1 norm): those of the smallest are set to
zero with their biases, and get no gradient any more, so that training goes on without them.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

#: Layers whose first axis of weights is output channels.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def power_of_two(channels: int) -> int:
    """The largest power of two that is no more: 33 and 63 channels come to 32, and 32 stay.

    Raises:
        ValueError: none at all.
    """
    if channels < 1:
        raise ValueError(f"power_of_two: expected at least 1 channel, got {channels}")
    return 1 << (channels.bit_length() - 1)


@torch.no_grad()
def keep_channels(layer: nn.Module, count: int | None = None) -> Tensor:
    """Zero all output channels but the `count` of the largest ‖w‖₂, for good.

        keep_channels(model[0])                      # 33 → 32: half of its kernel memory on Speck
        optimizer = torch.optim.Adam(...)            # made afterwards: it remembers no gradients of theirs
        ...                                          # train as before; zeros stay
        hw_targets.remove_dead_neurons(network)      # of the quantized network: they are gone

    The layer keeps its shape. A normalization behind it adds a bias of its own, with which the neurons behind a zeroed
    channel may still fire: fold it first, or do without.

    Args:
        layer: `torch.nn.Linear`, `Conv1d`, `Conv2d`, `Conv3d` and what derives from them.
        count: channels to keep; by default the largest power of two that is no more than there are.

    Returns:
        Tensor: (channels,), whether each is kept.

    Raises:
        TypeError: another layer.
        ValueError: less than one channel, or more than there are.
    """
    if not isinstance(layer, LAYERS):
        raise TypeError(f"keep_channels: expected Linear or Conv1d … Conv3d, got {type(layer).__name__}")
    norms = layer.weight.flatten(1).norm(dim=1)
    wanted = power_of_two(len(norms)) if count is None else count
    if not 1 <= wanted <= len(norms):
        raise ValueError(f"keep_channels: asked to keep {wanted} channels of {len(norms)}; give 1 … {len(norms)}")
    kept = torch.zeros(len(norms), dtype=torch.bool, device=norms.device)
    kept[norms.topk(wanted).indices] = True
    for parameter in (layer.weight, layer.bias):
        if parameter is not None:
            mask = kept.reshape(-1, *[1] * (parameter.dim() - 1))
            parameter.mul_(mask)
            if parameter.requires_grad:
                parameter.register_hook(partial(torch.mul, mask))  # type: ignore[no-untyped-call]  # torch's
    return kept
