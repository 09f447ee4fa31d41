"""A trained PyTorch model, exactly as it is, to a `Network`.

The model runs once on an example. Layers and neurons report what they did through module hooks, and the tensor
operations between them are watched through `__torch_function__`; so any Python control flow in `forward` is fine, a
loop over time included, and anything that was not understood is refused by name. Afterwards it is watched for a whole
sample, on the example and on other values, and compared with what was read in every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from hw_targets.errors import UnsupportedModel, check_type, check_whole
from hw_targets.frontends.torch.layout import Layout
from hw_targets.frontends.torch.projections import Sums
from hw_targets.frontends.torch.tracer import Tracer
from hw_targets.frontends.torch.watch import others, watch
from hw_targets.ir.network import GradedInput, Network, Neuron, SpikeInput
from hw_targets.passes.hard_reset import hard_reset
from hw_targets.passes.settled_bias import settled_bias
from neuroprune.frameworks import UnsupportedNeuron, framework_of
from neuroprune.frameworks.samples import with_batch


def from_torch(
    model: nn.Module, example_input: Tensor, *, time_steps: int | None = None, approximate: bool = False
) -> Network:
    """Read the populations and synapses of a spiking model, batch-norm folded, in evaluation mode.

    Args:
        model: a network of supported layers (Conv1d/2d, ConvTranspose1d/2d, Linear, BatchNorm, max-, average- and
            adaptive average pools, flatten, dropout) and of a framework's neurons; it is left in the mode and state it
            was in, its neurons reset. It returns one tensor, or a tuple of which one is no neuron's state.
        example_input: what the model takes: (T, N, C, H, W) for multi-step models, (N, C, H, W) for one step of a
            single-step model or for a model that repeats an image, (N, C, H, W, T) for slayer; or features (F,) for
            (C, H, W). Time may come second, (N, T, …), where the model turns it round or loops over it. One sample may
            come without its batch. Signals (C, L) become (C, 1, L). Values 0/1 are spikes; others must lie in 0…1 and
            enter the chip as 8-bit integers.
        time_steps: T, the steps a sample lasts; needed only where the model takes one step per call.
        approximate: let neurons that reset in another way reset to zero, and synaptic currents lose the start of what a
            bias adds to them; `Network.notes` names them, and `spike_difference` measures what it does.

    Returns:
        Network: populations are named after the neuron modules; a final linear layer becomes an `Accumulator`.

    Raises:
        UnsupportedModel: a layer, neuron or tensor operation without an exact counterpart, or neurons whose currents or
            spikes in some step, on the first sample of the example or of other inputs (the same values in another
            order, and, where an input is small, some drawn at random), are not those that the network computes; or
            values of tensors are read in Python, on which anything may depend; the message names it.
    """
    return read(model, example_input, time_steps=time_steps, approximate=approximate, watched=True)


def read(
    model: nn.Module, example_input: Tensor, *, time_steps: int | None, approximate: bool, watched: bool
) -> Network:
    """As `from_torch`; unless `watched`, compared with the model only in its first call on the example.

    That is enough of a model that differs from one that was watched in the values of weights alone.
    """
    check_type("from_torch", model, nn.Module, "a trained model")
    _check_single(example_input)
    check_type("from_torch", example_input, Tensor, "a tensor of what the model takes")
    model = _unwrapped(model)
    time_steps = None if time_steps is None else check_whole("from_torch", "time_steps", time_steps)
    framework = framework_of(model)
    if framework is None:
        raise UnsupportedModel(
            "from_torch: the model has no spiking neurons of a known framework; convert it to a spiking network first"
        )
    try:
        framework.check_alignment(model)
        axis, per_call = framework.time_axis(model), framework.neuron_time_axis(model)
    except UnsupportedNeuron as error:
        raise UnsupportedModel(f"from_torch: {error}") from error
    best, furthest = UnsupportedModel("from_torch: example_input has no axes"), -1
    for shown, lead, second in _ways(model, example_input, axis, per_call):
        seen = 0
        try:
            layout = Layout.of(shown, lead, time_last=axis == -1, time_second=second)
            tracer = Tracer(model, framework, layout)
            try:
                tracer.run(shown)
            finally:
                seen = tracer.seen
            network, calls = _network(tracer, axis, time_steps)
        except UnsupportedModel as error:
            # Of several ways to see the input, the one that led furthest tells most.
            if seen > furthest:
                best, furthest = error, seen
            continue
        sums = Sums()
        tracer.recording.check(network, sums)
        if watched:
            run = partial(watch, model, framework, tracer.layout, at_once=tracer.network.at_once)
            if calls > 1:
                run(shown, network, calls, "the example").check(network, sums)
            for other, name in others(shown):
                run(other, network, calls, name).check(network, sums)
        return hard_reset(settled_bias(network)) if approximate else network
    raise best


def _network(tracer: Tracer, axis: int | None, time_steps: int | None) -> tuple[Network, int]:
    """What was read, and how often the model has to be called for all of a sample's steps."""
    looped, found = tracer.network.steps, tracer.network
    steps = _steps(tracer.layout, looped, axis, time_steps)
    network = Network(tuple(found.populations), tuple(found.synapses), time_steps=steps, notes=tuple(found.notes))
    return _with_inputs(network), steps if not tracer.layout.steps and looped <= 1 else 1


def _with_inputs(network: Network) -> Network:
    """The network with an input that takes all that the chip does whose neurons it has.

    Raises:
        UnsupportedModel: several spikes of one channel in a step, where no chip is known that takes them, or values
            between whole numbers, where neurons are a chip's.
    """
    entry, most = network.inputs[0], network.inputs[0].neuron.most_sent
    if entry.neuron.is_graded and network.in_integers:
        raise UnsupportedModel(
            "from_torch: the example holds values between whole numbers, but the model's neurons are a chip's and take"
            " spikes; encode them first (rate, level crossings)"
        )
    if entry.neuron.is_graded:
        return network
    if network.in_integers:
        chips = network.as_integers().dynamics
        assert chips is not None
        if most <= chips.most_input:
            changed = replace(entry, neuron=_shown_alike(SpikeInput(chips.most_input), entry.neuron))
            return replace(network, populations=tuple(changed if p is entry else p for p in network.populations))
    counts = _shown_alike(GradedInput(scale=1.0), entry.neuron)
    if most > counts.most_sent or (most > 1 and network.in_integers):
        limit = 1 if network.in_integers else counts.most_sent
        raise UnsupportedModel(
            f"from_torch: the example's values span 0 … {most}, but a chip takes counts of events up to {limit} in one"
            " step, or images in 0 … 1; divide images by 255, or sum events over shorter steps"
        )
    if most > 1:
        return replace(
            network, populations=tuple(replace(p, neuron=counts) if p is entry else p for p in network.populations)
        )
    return network


def _check_single(example: object) -> None:
    """Refuse several inputs.

    Raises:
        UnsupportedModel: there are some.
    """
    if not isinstance(example, (tuple, list, dict)):
        return
    raise UnsupportedModel(
        f"from_torch: example_input is a {type(example).__name__} of {len(example)}, but a network has one input; join"
        " them into one tensor along their channels or features (torch.cat), and wrap the model in a module whose"
        " forward takes them apart again: model(x[:, :, :n], x[:, :, n:])"
    )


def _shown_alike(neuron: GradedInput | SpikeInput, as_it: Neuron) -> GradedInput | SpikeInput:
    """An input of another kind whose model is shown it as before."""
    return replace(neuron, changes=as_it.changes, time_last=as_it.time_last, time_second=as_it.time_second)


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model inside what `torch.compile` and data-parallel training made of it."""
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return _unwrapped(model.module)
    inner = getattr(model, "_orig_mod", model)
    return inner if inner is model else _unwrapped(inner)


def _ways(
    model: nn.Module, example: Tensor, axis: int | None, per_call: int | None
) -> Iterator[tuple[Tensor, int, bool]]:
    """Ways to see an example: how many axes come before a sample's own, and whether time is the second of two.

    Last, as one sample without its batch. A model that takes (T, N, …) refuses to be seen as one of (N, T, …), since
    only the axis of time may be turned to where neurons take it, or looped over.
    """
    leads = _leads(example.dim(), axis, per_call)
    for lead in leads:
        yield example, lead, False
    if 2 in leads:
        yield example, 2, True
    if axis != -1 and (batch := with_batch(model, example)) is not None:
        yield batch, 1, False


def _leads(dim: int, axis: int | None, per_call: int | None) -> tuple[int, ...]:
    """How many axes come before a sample's own, likeliest first: the batch, or time and batch.

    A model whose neurons take one step per call may loop over an input (T, N, …) or over one step (N, …) of it; one
    whose neurons take all steps may get them, or repeat an image.
    """
    if axis == -1:
        return (1,)
    if dim == 4:
        return (1, 2) if per_call is None else (2, 1)
    if dim == 3:
        return (2, 1) if axis == 0 else (1, 2)
    return (2,) if dim == 5 else (1,)


def _steps(layout: Layout, looped: int, axis: int | None, asked: int | None) -> int:
    """T: as many as the input has or the model makes of it, its own loop took (`looped`), or the caller says."""
    if layout.steps:
        if looped not in (0, layout.steps):
            raise UnsupportedModel(
                f"from_torch: the model took {looped} of the {layout.steps} steps of its input; loop over all of them"
            )
        if layout.has_all_steps or asked in (None, layout.steps):
            return layout.steps
        looped = layout.steps
    elif looped <= 1:
        if axis is not None and asked not in (None, 1):
            raise UnsupportedModel(
                "from_torch: the model's forward takes one step, and its neurons get their states from it, so that no"
                " second step can follow; loop over time in forward, or use init_hidden=True"
            )
        if axis is None and asked is None:
            raise UnsupportedModel(
                "from_torch: the model takes one time step per call; say how many a sample lasts, time_steps=..."
            )
        return asked or 1
    if asked not in (None, looped):
        raise UnsupportedModel(
            f"from_torch: the model loops over {looped} steps, but time_steps is {asked}; leave it out"
        )
    return looped
