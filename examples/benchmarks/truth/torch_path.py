"""One torch model made up at random, against what we say it does: in real numbers, and in the chip's integers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from examples.benchmarks.truth.chip_weights import needs_rounding, with_chip_weights
from examples.benchmarks.truth.drawing import draw_model
from examples.benchmarks.truth.finding import Array, Finding
from examples.benchmarks.truth.models import Model, Net
from examples.benchmarks.truth.neurons import ChipNeuron
from examples.benchmarks.truth.tape import Tape
from hw_targets import Activity, dequantize, emulate, from_torch, load_chip, quantize
from hw_targets.errors import HardwareTargetError
from hw_targets.ir.network import ChipNetwork, Network
from hw_targets.targets.loihi.neuron import CubaLIF
from neuroprune.frameworks import framework_of, spikes_of


def check_torch(tape: Tape) -> Finding:
    """Read a model, quantize it, and run both against torch."""
    model = draw_model(tape)
    finding = Finding("; ".join(model.description), model.features, tape=tape.values)
    example, steps = model.example
    try:
        network = from_torch(model.net, example, time_steps=steps)
        chip = quantize(network, load_chip("loihi1"))
    except HardwareTargetError as error:
        finding.refused = str(error)
        return finding
    finding.neurons = sum(p.size for p in network.populations if not p.is_input)
    _compare(finding, "real", model, model.net, network, emulate(network, model.inputs))
    activity = emulate(chip, model.inputs)
    _compare_chip(finding, model, chip, activity)
    return finding


def _compare_chip(finding: Finding, model: Model, chip: ChipNetwork, activity: Activity) -> None:
    """The chip's weights in torch: with neurons that round and clip as the chip does, and with the framework's own.

    The latter where the chip neither rounds nor clips; where it rounds, the difference is measured beside.
    """
    fired = {name: chip[name].neuron for name in (f"parts.fire{i}" for i in range(len(model.net.blocks)))}
    rounding = {name for name, neuron in fired.items() if isinstance(neuron, CubaLIF) and needs_rounding(neuron)}
    twin = with_chip_weights(model.net, chip, frozenset(fired))
    _compare(finding, "chip", model, twin, chip, activity)
    clips = {name: _clips(twin, name) for name in fired}
    finding.note("clips", sum(clips[name] != activity.overflows[name] for name in fired))
    clipping = {name for name, count in clips.items() if count}
    own = frozenset(fired) - rounding - clipping
    if own:
        net = with_chip_weights(model.net, chip, frozenset(fired) - own)
        _compare(finding, "chip, own neurons", model, net, chip, activity)
    finding.features.update({"potentials clipped": bool(clipping), "the chip rounds": bool(rounding)})
    if rounding and not clipping:
        unrounded, _ = run(with_chip_weights(model.net, chip, frozenset()), model)
        for name, spikes in unrounded.items():
            finding.rounded += int((activity.spikes[name] != spikes.reshape(activity.spikes[name].shape)).sum())
            finding.rounded_of += int(spikes.sum())


def _clips(net: Net, name: str) -> int:
    node = net.get_submodule(name)
    assert isinstance(node, ChipNeuron)
    return node.clips


def _compare(
    finding: Finding, how: str, model: Model, net: Net, network: Network | ChipNetwork, activity: Activity
) -> None:
    sent, output = run(net, model)
    for name, spikes in sent.items():
        finding.compare(f"{how} {name}", activity.spikes[name], spikes)
    real = dequantize(network) if isinstance(network, ChipNetwork) else network
    end = network.outputs[0]
    scale = network.scales[end.name] if isinstance(network, ChipNetwork) and end.name not in activity.spikes else 1.0
    close = np.isclose(activity.output / scale, output.reshape(activity.output.shape), rtol=1e-9, atol=1e-7)
    finding.note(f"{how} output", int((~close).sum()))
    assert real.time_steps == len(model.inputs)


def run(net: Net, model: Model) -> tuple[dict[str, Array], Array]:
    """Spikes (T, N, …) of every neuron and max-pool module, and the output summed over the steps."""
    seen: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, out, n=name: seen.setdefault(n, []).append(spikes_of(out)))
        for name, module in net.named_modules()
        if name.count(".") == 1 and (name.startswith("parts.fire") or isinstance(module, nn.MaxPool2d))
    ]
    if (framework := framework_of(net)) is not None:
        framework.reset(net)
    with torch.no_grad():
        whole = net.layout in ("multi-step", "loop")
        output = net(model.shown) if whole else torch.stack([net(step) for step in model.shown])
    for handle in handles:
        handle.remove()
    own_loop = net.layout != "multi-step"
    return {n: (torch.stack(s) if own_loop else s[0]).numpy() for n, s in seen.items()}, output.sum(0).numpy()
