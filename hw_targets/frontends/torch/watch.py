"""A model watched for a whole sample, once it has been read: what its neurons get and send in every step.

Reading sees a model that takes one step per call for one step alone. What changes from step to step (a recurrence, a
normalisation with statistics of its own for each step) shows in the others, and what depends on the values of the
example shows on another input.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.torch import per_neuron
from hw_targets.frontends.torch.builder import UNSTEADY, alike
from hw_targets.frontends.torch.evaluation import evaluated
from hw_targets.frontends.torch.layout import Layout
from hw_targets.frontends.torch.read_check import Recording
from hw_targets.ir.network import Network
from neuroprune.frameworks import Framework, NeuronEquation, spikes_of

#: Of inputs with no more values than this, some more are drawn, with so many of them not zero.
_SMALL, _RATES = 1 << 14, (0.3, 0.6, 0.9, 0.6, 0.3)


def like(example: Tensor) -> Tensor:
    """Another input of an example's kind: its values in another order."""
    order = torch.randperm(example.numel(), generator=torch.Generator().manual_seed(0))
    return example.reshape(-1)[order.to(example.device)].reshape(example.shape)


def others(example: Tensor) -> Iterator[tuple[Tensor, str]]:
    """Inputs of an example's kind, and what messages call them: its values in another order, and, of small ones, more.

    On one input little may fire, and what happens to spikes alone would not show.
    """
    yield like(example), "a second input (the example's values in another order)"
    if example.numel() > _SMALL:
        return
    top = float(example.max())
    for index, rate in enumerate(_RATES):
        generator = torch.Generator().manual_seed(index)
        values = torch.rand(example.shape, generator=generator)
        if bool((example == example.round()).all()):
            values = (values * top).ceil()
        drawn = values * (torch.rand(example.shape, generator=generator) < rate)
        yield drawn.to(example), f"an input drawn at random, {rate:.0%} of it not zero"


def watch(
    model: nn.Module,
    framework: Framework,
    layout: Layout,
    inputs: Tensor,
    network: Network,
    calls: int,
    of: str,
    at_once: Set[str] = frozenset(),
) -> Recording:
    """What the neurons of the first sample got and sent while the model, in evaluation mode, ran on `inputs`.

    Args:
        model: left in the mode it was in, its neurons reset.
        framework: its own.
        layout: of the inputs.
        inputs: as the model takes them.
        network: what was read from it.
        calls: how often the model is called, with the same inputs, for all steps of a sample.
        of: what messages call the inputs.
        at_once: populations whose modules take all steps in one call.

    Raises:
        UnsupportedModel: the model does not run, or some of its neurons do not in every step, or not as the same ones.
    """
    recording, entry = Recording(of), network.inputs[0]
    recording.sent(entry.name, layout.shown(inputs))
    try:
        with evaluated(model, framework), _recorded(model, framework, layout, network, recording, at_once):
            for _ in range(calls):
                model(inputs)
    except UnsupportedModel:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise UnsupportedModel(
            f"from_torch: the model does not run for {calls} calls, or not on other values than the example's: {error}"
        ) from error
    recording.check_steps(network)
    return recording


@contextmanager
def _recorded(
    model: nn.Module,
    framework: Framework,
    layout: Layout,
    network: Network,
    recording: Recording,
    at_once: Set[str],
) -> Iterator[None]:
    names, handles = {p.name for p in network.populations}, list[Any]()
    blocks = [(m, framework.recurrent(m)) for m in model.modules()]
    inside = {block.neuron: module for module, block in blocks if block is not None}

    def note(name: str, *, driven: Tensor | None) -> Any:
        shape = network[name].shape
        equations: list[NeuronEquation] = []

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            whole = name in at_once
            if driven is not None:
                equations.append(framework.equation(module))
                if not alike(equations[0], equations.pop(1) if equations[1:] else equations[0]):
                    raise UnsupportedModel(f"from_torch: {name} {UNSTEADY}")
            recording.sent(name, layout.sample(spikes_of(output), shape, whole=whole))
            if driven is not None:
                current = layout.sample(args[0] if args else next(iter(kwargs.values())), shape, whole=whole)
                recording.driven(name, current * driven.to(current).reshape(-1, *[1] * (len(shape) - 1)))

        return hook

    for name, module in model.named_modules():
        if name not in names:
            continue
        if framework.is_neuron(module):
            handles += _kept(name, module)
        if module in inside:
            # Its own spikes are part of what it gets: the block alone knows the steps, and what it was given.
            handles.append(inside[module].register_forward_hook(note(name, driven=None), with_kwargs=True))
        elif framework.is_neuron(module):
            gains = torch.from_numpy(per_neuron.gains(framework.equation(module), network[name].shape))
            handles.append(module.register_forward_hook(note(name, driven=gains), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


#: A tensor, or what else a neuron holds, and the version of its values.
_Held = tuple[Any, int]


def _kept(name: str, module: nn.Module) -> list[Any]:
    """Hooks that refuse neurons whose states are not those that they were left with in the step before."""
    held: dict[str, _Held] = {}

    def check(_module: nn.Module, _args: Any) -> None:
        now = _states(module)
        for key, (before, version) in held.items():
            after = now.get(key, (None, 0))[0]
            same = after is before and now[key][1] == version
            if not same and not (_version(before) == version and _equal(before, after)):
                raise UnsupportedModel(
                    f"from_torch: the states of {name} are changed between two steps of a sample, as by a reset in"
                    " forward; reset neurons before a sample alone"
                )

    def note(_module: nn.Module, _args: Any, _output: Any) -> None:
        held.update(_states(module))

    return [module.register_forward_pre_hook(check), module.register_forward_hook(note)]


def _states(module: nn.Module) -> dict[str, _Held]:
    own = vars(module)
    found = {**own, **module._buffers, **own.get("_memories", {})}
    memories = own.get("_memories", {})
    return {k: (v, _version(v)) for k, v in found.items() if isinstance(v, Tensor) or k in memories}


def _version(value: Any) -> int:
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


def _equal(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return before.shape == after.shape and torch.equal(before, after)
    return not isinstance(before, Tensor) and not isinstance(after, Tensor) and bool(before == after)
