"""Running a model once to see what it does, while nobody who watches or counts sees anything of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def unwatched(model: nn.Module) -> Iterator[None]:
    """No gradients, no hooks of modules, no modes that see torch's functions; modes of training are as before."""
    kept = [(m, m.training, m._forward_hooks, m._forward_pre_hooks) for m in model.modules()]
    for module, *_ in kept:
        module._forward_hooks, module._forward_pre_hooks = OrderedDict(), OrderedDict()
    try:
        with torch.no_grad(), torch._C.DisableTorchFunction():
            yield
    finally:
        for module, training, hooks, before in kept:
            module.training, module._forward_hooks, module._forward_pre_hooks = training, hooks, before
