"""What layers read in the passes that a model is trained on, seen by a hook in front of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neuroprune.synops.spikes import is_analog


def check_model(call: str, model: object) -> None:
    """Refuse what is no module.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"{call}: expected a torch module, got {type(model).__name__}")


def trained_on(layer: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor | None:
    """What a layer reads that counts: the input of a pass in training mode with gradients, unless it is an image.

    Activation checkpointing runs a part of the model again inside `backward()`; what was seen before is not seen twice.

    Raises:
        RuntimeError: that part was run without gradients the first time (`use_reentrant=True`), and never seen.
    """
    if not (layer.training and torch.is_grad_enabled()):
        return None
    if torch._C._current_graph_task_id() != -1:  # inside backward(); torch has no public name for it
        _check_checkpoint(layer)
        return None
    values = next((x for x in (*arguments, *named.values()) if isinstance(x, Tensor)), None)
    return None if values is None or is_analog(values) else values


@contextmanager
def beside_checkpoints() -> Iterator[None]:
    """What is computed in here is kept for `backward()` as usual, where activation checkpointing computes all again.

    That counts the tensors that are kept, and expects the same number of the second time.
    """
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        yield


def _check_checkpoint(layer: nn.Module) -> None:
    node = torch._C._current_autograd_node()
    if type(node).__name__ == "CheckpointFunctionBackward":
        raise RuntimeError(
            f"activation checkpointing with use_reentrant=True runs a {type(layer).__name__} without gradients, so that"
            " what it reads cannot be seen when it counts; give torch.utils.checkpoint use_reentrant=False"
        )
