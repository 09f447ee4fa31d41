"""Pruning at initialization: one mask, chosen before the first step, kept for the whole training."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples.benchmarks.frontier.methods.base import Handle, Knob, Run
from examples.benchmarks.frontier.methods.masks import Masked, global_masks
from neuroprune.frameworks import framework_of
from neuroprune.training.data.images import as_input
from neuroprune.training.loop import predictor


@dataclass(frozen=True)
class SNIP:
    """Lee et al., "SNIP", ICLR 2019 (arXiv 1810.02340): connection sensitivity on the first `images` of the data."""

    images: int = 512
    name: str = "snip"
    knob: Knob | None = None

    def attach(self, run: Run) -> Handle:
        """Masks from one batch."""
        batch = run.data.subset(0, min(self.images, len(run.data)))
        device = next(run.model.parameters()).device
        images, labels = as_input(batch.images.to(device)), batch.labels.to(device)
        return Masked(run, snip_masks(run.model, images, labels, run.target, time_steps=run.time_steps))


@dataclass(frozen=True)
class SynFlow:
    """Tanaka et al., "Pruning neural networks without any data", NeurIPS 2020 (arXiv 2006.05467), in `rounds`."""

    rounds: int = 100
    name: str = "synflow"
    knob: Knob | None = None

    def attach(self, run: Run) -> Handle:
        """Masks from no data."""
        shape = tuple(run.data.images.shape[1:])
        return Masked(run, synflow_masks(run.model, shape, run.target, rounds=self.rounds))


def prunable_names(model: nn.Module) -> list[str]:
    """Names of the parameters of two or more dimensions, in the model's order, as the optimizer has them."""
    return [name for name, p in model.named_parameters() if p.dim() >= 2 and p.requires_grad]


def snip_saliency(model: nn.Module, images: Tensor, labels: Tensor, *, time_steps: int = 1) -> list[Tensor]:
    """|w·∂L/∂w| of each prunable parameter: how much the loss changes as w·c moves away from c = 1 (Lee et al., 2019).

    Args:
        model: left as it was; used in training mode (batch statistics), on a copy.
        images: (N, C, H, W), values 0 … 1.
        labels: (N,).
        time_steps: for spiking models.
    """
    twin = copy.deepcopy(model).train()
    parameters = [twin.get_parameter(name) for name in prunable_names(twin)]
    loss = F.cross_entropy(predictor(twin, time_steps)(twin, images), labels)
    gradients = torch.autograd.grad(loss, parameters)
    return [(p * g).abs().detach() for p, g in zip(parameters, gradients, strict=True)]


def snip_masks(
    model: nn.Module, images: Tensor, labels: Tensor, sparsity: float, *, time_steps: int = 1
) -> list[Tensor]:
    """Masks that drop the fraction `sparsity` with the lowest `snip_saliency`, in one shot, over all layers."""
    return global_masks(snip_saliency(model, images, labels, time_steps=time_steps), sparsity)


def synflow_masks(
    model: nn.Module, input_shape: tuple[int, ...], sparsity: float, *, rounds: int = 100
) -> list[Tensor]:
    """Masks by iterative synaptic flow: round k of n leaves the density (1 − sparsity)^(k/n) (Tanaka et al., 2020).

    Args:
        model: left as it was.
        input_shape: (C, H, W).
        sparsity: fraction to drop, in [0, 1).
        rounds: n.

    Raises:
        ValueError: sparsity or rounds out of range.
    """
    if not 0.0 <= sparsity < 1.0 or rounds < 1:
        raise ValueError(f"synflow_masks: need 0 <= sparsity < 1 and rounds >= 1, got {sparsity} and {rounds}")
    twin = linear_twin(model)
    parameters = [twin.get_parameter(name) for name in prunable_names(twin)]
    masks = [torch.ones_like(p, dtype=torch.bool) for p in parameters]
    for k in range(1, rounds + 1):
        scores = synaptic_flow(twin, parameters, input_shape)
        # A dropped weight has score 0, as has one whose flow broke off; dropped ones must go first.
        ranked = [torch.where(mask, s, -1.0) for mask, s in zip(masks, scores, strict=True)]
        masks = global_masks(ranked, 1.0 - (1.0 - sparsity) ** (k / rounds))
        with torch.no_grad():
            for parameter, mask in zip(parameters, masks, strict=True):
                parameter.mul_(mask)
    return masks


def linear_twin(model: nn.Module) -> nn.Module:
    """A copy in double precision and evaluation mode, with |parameters| and without spiking neurons.

    Synaptic flow asks for a network that is linear for positive inputs: ReLU and max-pool are, and a spiking neuron,
    whose rate is to its input what ReLU is, stands for the identity.
    """
    framework = framework_of(model)
    if framework is not None:
        framework.reset(model)
    twin = copy.deepcopy(model).double().eval()
    if framework is not None:
        neurons = [name for name, module in twin.named_modules() if framework.is_neuron(module)]
        for name in neurons:
            twin.set_submodule(name, nn.Identity())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.abs_()
    return twin


def synaptic_flow(twin: nn.Module, parameters: list[nn.Parameter], input_shape: tuple[int, ...]) -> list[Tensor]:
    """Score θ·∂R/∂θ of each parameter of a `linear_twin`, R the sum of its outputs for an image of ones."""
    ones = torch.ones(1, *input_shape, dtype=torch.float64, device=parameters[0].device)
    flow = predictor(twin, 1)(twin, ones).sum()
    gradients = torch.autograd.grad(flow, parameters)
    return [(p * g).detach() for p, g in zip(parameters, gradients, strict=True)]
