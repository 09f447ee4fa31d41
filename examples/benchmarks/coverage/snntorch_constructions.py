"""The 253 neurons that snnTorch's tutorials and examples construct, as they are written, and how often.

Counted in the tutorials' pages (docs/tutorials, translations included) and notebooks (examples) of
github.com/jeshraghian/snntorch at 634fc22. `SCOPE` holds what the pages' variables stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import snntorch as snn
import torch
from snntorch import surrogate
from torch import Tensor, nn

from examples.benchmarks.coverage.judge import Case, image

STEPS, FEATURES = 20, 10
CONSTRUCTIONS: dict[str, int] = {
    "Leaky(beta=0.8)": 5,
    "Leaky(beta=0.9)": 5,
    "Leaky(beta=0.9, init_hidden=True)": 1,
    "Leaky(beta=0.9, init_hidden=True, output=True)": 1,
    "Leaky(beta=beta)": 27,
    "Leaky(beta=beta, init_hidden=True)": 4,
    "Leaky(beta=beta, init_hidden=True, output=True)": 2,
    "Leaky(beta=beta, spike_grad=surrogate.fast_sigmoid())": 2,
    "Leaky(beta=beta, spike_grad=spike_grad)": 18,
    "Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True)": 24,
    "Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True, output=True)": 15,
    "Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True, output=True, threshold=20000)": 6,
    "Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True, output=True, threshold=thresh)": 19,
    "Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True, threshold=thresh)": 51,
    "Leaky(beta=beta, threshold=0.3, init_hidden=True, output=True)": 1,
    "Leaky(beta=beta1)": 1,
    "Leaky(beta=beta2, learn_beta=True)": 1,
    "Leaky(beta=beta_hidden, threshold=thr_hidden, learn_beta=True, spike_grad=spike_grad)": 3,
    "Leaky(beta=beta_in, threshold=thr_in, learn_beta=True, spike_grad=spike_grad)": 3,
    'Leaky(beta=beta_out, threshold=1.0, learn_beta=True, spike_grad=spike_grad, reset_mechanism="none")': 3,
    "Leaky(beta=self.beta, threshold=self.thresh1)": 1,
    "Leaky(beta=self.beta, threshold=self.thresh2)": 1,
    "Leaky(beta=self.beta, threshold=self.thresh3)": 1,
    "Lapicque(R=5, C=10)": 1,
    "Lapicque(R=5, C=10, threshold=0.5)": 1,
    'Lapicque(R=5, C=10, threshold=0.5, reset_mechanism="zero")': 1,
    "Lapicque(R=5.1, C=5e-3, time_step=1e-3)": 3,
    "Lapicque(R=5.1, C=5e-3, time_step=1e-3, threshold=0.5)": 3,
    'Lapicque(R=5.1, C=5e-3, time_step=1e-3, threshold=0.5, reset_mechanism="zero")': 3,
    "Lapicque(R=R, C=C, time_step=time_step)": 4,
    "Lapicque(beta=beta)": 1,
    "Synaptic(alpha=alpha, beta=beta)": 8,
    "RLeaky(beta=beta, all_to_all=False)": 3,
    "RLeaky(beta=beta, all_to_all=False, learn_recurrent=False)": 3,
    "RLeaky(beta=beta, conv2d_channels=3, kernel_size=(5, 5))": 3,
    "RLeaky(beta=beta, linear_features=10)": 3,
    "RLeaky(beta=self.beta, linear_features=10)": 3,
    "RLeaky(beta=self.beta, linear_features=self.hidden)": 3,
    "Alpha(alpha=alpha, beta=beta, threshold=0.5)": 4,
    "StateLeaky(beta=beta, channels=1)": 2,
    "DeltaLeaky(beta=beta, delta_threshold=0.3, init_hidden=True, output=True)": 1,
    "DeltaLeaky(beta=beta, delta_threshold=1.0, init_hidden=True, output=True)": 1,
    "DeltaLeaky(beta=beta1)": 1,
    "DeltaLeaky(beta=beta2, learn_beta=True)": 1,
    "LeakyParallel(2, 4, beta=0.9, learn_beta=True)": 1,
    "LeakyParallel(20, 30)": 1,
    "LeakyParallel(30, num_outputs, beta=beta1, learn_beta=False)": 1,
    "LeakyParallel(num_hidden, num_outputs, beta=beta1, learn_beta=False, threshold=1)": 1,
    "LeakyParallel(num_inputs, num_hidden, beta=beta1, learn_beta=True, threshold=1)": 1,
}
_REFUSED = ("DeltaLeaky", "LeakyParallel")


def scope() -> dict[str, Any]:
    """What the variables of the tutorials hold; what they draw at random is drawn anew."""
    drawn = {name: torch.rand(FEATURES) for name in ("beta2", "beta_in", "beta_hidden", "thr_in", "thr_hidden")}
    of_self = SimpleNamespace(beta=0.4415, hidden=FEATURES, thresh1=2.36, thresh2=7.985, thresh3=3.8496)
    sizes = {"num_inputs": FEATURES, "num_hidden": FEATURES, "num_outputs": FEATURES}
    circuit = {"R": 5, "C": 1e-3, "time_step": 1e-3}
    grads = {"surrogate": surrogate, "spike_grad": surrogate.fast_sigmoid(slope=25)}
    plain = {"alpha": 0.9, "beta": 0.8, "beta1": 0.9, "thresh": 1.0, "beta_out": torch.rand(1)}
    return {**vars(snn), **drawn, **sizes, **circuit, **grads, **plain, "self": of_self}


class Alone(nn.Module):
    """Neurons behind a layer, in a loop over the steps of (T, N, …) that passes their states on where they need it."""

    def __init__(self, layer: nn.Module, neurons: nn.Module) -> None:
        super().__init__()
        self.layer, self.neurons = layer, neurons

    def forward(self, x: Tensor) -> Any:
        """Spikes of all steps; of neurons that never reset, the potential after the last."""
        if isinstance(self.neurons, (snn.StateLeaky, snn.LeakyParallel)):
            return self.neurons(self.layer(x))
        node: Any = self.neurons
        state = () if node.init_hidden else node.reset_mem()
        state = state if isinstance(state, tuple) and not isinstance(node, snn.DeltaLeaky) else (state,)
        sent, potentials = [], []
        for step in x:
            found = node(self.layer(step), *(() if node.init_hidden else state))
            spikes, *rest = found if isinstance(found, tuple) else (found,)
            if not node.init_hidden:
                state = (spikes, *rest) if isinstance(node, snn.RLeaky) else tuple(rest)
            sent.append(spikes)
            potentials += rest[-1:]
        return potentials[-1] if getattr(node, "reset_mechanism", "") == "none" else torch.stack(sent)


def _build(written: str) -> nn.Module:
    # The dictionary above is source, kept as text so that the table shows it as the tutorials do.
    neurons: nn.Module = eval(written, scope())
    if "conv2d" in written:
        return Alone(nn.Conv2d(1, 3, 3, padding=1), neurons)
    return Alone(nn.Linear(12, neurons.rnn.input_size if isinstance(neurons, snn.LeakyParallel) else FEATURES), neurons)


def _case(written: str, count: int) -> Case:
    def build(text: str = written) -> Callable[[], nn.Module]:
        return lambda: _build(text)

    example = image(STEPS, 2, 1, 7, 7) if "conv2d" in written else image(STEPS, 2, 12)
    instead = build("Leaky(beta=beta)") if written.startswith(_REFUSED) else None
    return Case(written, build(), example, count=count, instead=instead)


CASES: tuple[Case, ...] = tuple(_case(written, count) for written, count in CONSTRUCTIONS.items())
