"""What exact SynOps counting adds to inference."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from examples.benchmarks.common import Action, Goal, Report, interleave, one_thread
from neuroprune import SynOpsCounter, count_synops
from neuroprune.frameworks.spikingjelly import FRAMEWORK
from neuroprune.frameworks.spikingjelly_equations import neuron
from neuroprune.models.sew_resnet import SmallSEWResNet, functional, sew_resnet, surrogate

TIME_STEPS, SPARSITY = 4, 0.9
GOAL = Goal(1.05)
METHOD = (
    "Each round times inference over all time steps by itself and under every counter, in random order; ratios are"
    " paired by round. Networks are untrained, 90% of their weights zero at random, batch-norm statistics settled on"
    " the same kind of input so that neurons fire. The reused counter keeps its fan-out maps, its hooks are set and"
    " removed in the timed part; one-shot counting builds everything anew."
)


@dataclass(frozen=True)
class Case:
    """A network and its input (T, N, C, H, W)."""

    title: str
    model: nn.Module
    inputs: Tensor

    @torch.no_grad()
    def infer(self) -> Tensor:
        """One forward pass over all steps, from rest."""
        FRAMEWORK.reset(self.model)
        output: Tensor = self.model(self.inputs)
        return output


def run(*, quick: bool = False) -> Report:
    """Measure both networks."""
    rounds = 3 if quick else 40
    parameters = {"time_steps": TIME_STEPS, "sparsity": SPARSITY, "rounds": rounds}
    report = Report("counting", quick, parameters, METHOD)
    with one_thread():
        for case in _cases(quick):
            report.parameters[case.title] = {"input": list(case.inputs.shape)}
            _measure(report, case, rounds)
    return report


def _cases(quick: bool) -> Iterator[Case]:
    yield _case("small SEW ResNet, 28×28", SmallSEWResNet(), 8 if quick else 64, (1, 28, 28))
    options = {"surrogate_function": surrogate.ATan(), "detach_reset": True, "num_classes": 10}
    resnet = sew_resnet.sew_resnet18(cnf="ADD", spiking_neuron=neuron.IFNode, **options)
    functional.set_step_mode(resnet, "m")
    yield _case("SEW ResNet-18, 32×32", resnet, 2 if quick else 8, (3, 32, 32))


@torch.no_grad()
def _case(title: str, model: nn.Module, batch: int, shape: tuple[int, ...]) -> Case:
    """Prune at random, let the batch-norm statistics settle, switch to evaluation."""
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            parameter.mul_(torch.rand_like(parameter) >= SPARSITY)
    case = Case(title, model.train(), torch.rand(batch, *shape).expand(TIME_STEPS, batch, *shape))
    for _ in range(20):
        case.infer()
    model.eval()
    return case


def _measure(report: Report, case: Case, rounds: int) -> None:
    counter = SynOpsCounter(case.model)
    counts: dict[str, object] = {}

    def reused() -> None:
        counter.reset()
        with counter:
            case.infer()

    def one_shot() -> None:
        result = count_synops(case.model, case.inputs, forward=lambda *_: case.infer())
        counts["neuroprune"] = {"synops": result.total, "macs": result.macs}

    variants: dict[str, Action] = {"plain": _quiet(case.infer), "plain again": _quiet(case.infer)}
    variants |= {"reused counter": reused, "count_synops": one_shot}
    for name, peer in _PEERS.items():
        try:
            variants[name] = _probe(peer, case, name, counts)
        except Exception as error:  # a peer may fail in any way; that is what the report says then
            report.skipped[f"{case.title}/{name}"] = f"{type(error).__name__}: {error}"
    report.samples[case.title] = interleave(variants, rounds, title=f"counting, {case.title}")
    report.values[case.title] = counts
    for name in list(variants)[1:]:
        goal = GOAL if name == "reused counter" else None
        label = f"inference of {case.title}: {_LABELS.get(name, name)} / plain"
        report.add_ratio(case.title, name, "plain", label, goal=goal, headline=name != "plain again")


def _quiet(action: Callable[[], object]) -> Action:
    def call() -> None:
        action()

    return call


def _probe(peer: Callable[[Case], object], case: Case, name: str, counts: dict[str, object]) -> Action:
    """A peer as an action, tried once."""
    counts[name] = peer(case)
    return _quiet(lambda: peer(case))


def _spikingjelly(case: Case) -> object:
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter

    counter = SynOpCounter()
    with DispatchCounterMode([counter]):
        case.infer()
    return int(counter.get_total())


def _neurobench(case: Case) -> object:
    from neurobench.metrics.workload.synaptic_operations import SynapticOperations
    from neurobench.models.torch_model import TorchModel

    wrapped, metric = TorchModel(case.model), SynapticOperations()
    wrapped.register_hooks()
    try:
        with torch.no_grad(), contextlib.redirect_stdout(None):
            output = case.infer()
            found = metric(wrapped, output, (case.inputs[0],))
    finally:
        wrapped.cleanup_hooks()
    batch = case.inputs.shape[1]
    return {key: float(value) * batch for key, value in found.items()}


_PEERS: dict[str, Callable[[Case], object]] = {
    "SpikingJelly SynOpCounter": _spikingjelly,
    "NeuroBench SynapticOperations": _neurobench,
}
_LABELS = {
    "plain again": "plain, a second time (noise)",
    "reused counter": "SynOpsCounter, reused",
    "count_synops": "count_synops, one shot",
}
