"""A model as it is read and compared: in evaluation mode, from a fresh state, and afterwards as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from neuroprune.frameworks import Framework


@contextmanager
def evaluated(model: nn.Module, framework: Framework) -> Iterator[None]:
    """No gradients, evaluation mode, neurons reset; modes are restored at the end, and neurons reset again."""
    modes = {module: module.training for module in model.modules()}
    framework.reset(model)
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        framework.reset(model)
