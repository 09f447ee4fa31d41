"""SpikingJelly's own SEW ResNets, small enough for tests."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.model import sew_resnet
from torch import Tensor, nn

from hw_targets import load_chip

LOIHI = load_chip("loihi1")


CLASSES, T = 10, 3


def sew(depth: int, mode: str = "m", *, seed: int = 0) -> nn.Module:
    """A SEW ResNet as SpikingJelly builds it, its batch-norms with statistics of their own; in double precision."""
    torch.default_generator.manual_seed(seed)
    build = getattr(sew_resnet, f"sew_resnet{depth}")
    model: nn.Module = build(cnf="ADD", spiking_neuron=neuron.IFNode, num_classes=CLASSES)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                assert m.running_mean is not None
                assert m.running_var is not None
                m.running_mean.normal_(0, 0.1)
                m.running_var.uniform_(0.3, 1.2)
                m.weight.uniform_(0.8, 1.6)
                m.bias.normal_(0.1, 0.2)
    functional.set_step_mode(model, mode)
    return model.double().eval()


def images(size: int, samples: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (samples, 3, size, size), generator=generator)
