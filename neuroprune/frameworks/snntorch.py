"""snnTorch 1.0, with hidden states (`init_hidden=True`) or with states passed by the model.

What its neurons compute is in `snntorch_equations`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from neuroprune._require import require
from neuroprune.frameworks import snntorch_equations, snntorch_loops, snntorch_resets
from neuroprune.frameworks.base import NeuronEquation, Recurrent, UnsupportedNeuron

snn = require("snntorch", "snntorch")


class SnnTorch:
    """Models whose neurons hide their states take one step; others loop over time in their own `forward`."""

    name = "snntorch"

    def is_neuron(self, module: nn.Module) -> bool:
        """All of snnTorch's spiking neurons."""
        return isinstance(module, (snn.SpikingNeuron, snn.LeakyParallel))

    def sends_spikes(self, module: nn.Module) -> bool:
        """Known neurons with a surrogate that is a step going forward, and spikes of size 1."""
        return snntorch_equations.is_known(module) and snntorch_equations.sends_ones(module)

    def is_plain_layer(self, module: nn.Module) -> bool:  # noqa: ARG002 - asked of every framework
        """SnnTorch has no layers of its own."""
        return False

    def is_own_layer(self, module: nn.Module) -> bool:  # noqa: ARG002 - asked of every framework
        """None is: layers are torch's."""
        return False

    def one_step_layer(self, module: nn.Module, shape: tuple[int, ...]) -> nn.Module:  # noqa: ARG002 - as above
        """The module itself."""
        return module

    def advice(self, module: nn.Module) -> str | None:  # noqa: ARG002 - as above
        """None: it has no layers of its own."""
        return None

    def instead_of_failing(self, module: nn.Module) -> str | None:  # noqa: ARG002 - asked of every framework
        """None: nothing is known."""
        return None

    def recurrent(self, module: nn.Module) -> Recurrent | None:
        """RLeaky and RSynaptic, which hear their own spikes through a layer, or each neuron itself alone."""
        if type(module) not in (snn.RLeaky, snn.RSynaptic):
            return None
        node: Any = module
        feedback = node.recurrent if node.all_to_all else node.recurrent.V.detach()
        return Recurrent(None, feedback, module)

    def equation(self, module: nn.Module) -> NeuronEquation:
        """`snntorch_equations.equation`; all fire where v > threshold."""
        return snntorch_equations.equation(module)

    def make_hard_reset(self, module: nn.Module) -> bool:
        """`snntorch_resets.make_hard_reset`."""
        return snntorch_resets.make_hard_reset(module)

    def make_sum(self, module: nn.Module) -> bool:
        """`snntorch_resets.make_sum`."""
        return snntorch_resets.make_sum(module)

    def check_alignment(self, model: nn.Module) -> None:
        """Nothing shifts spikes in time."""

    def reset(self, model: nn.Module) -> None:
        """Zero states for every neuron, however deep (`snntorch.utils.reset` sees direct children only)."""
        for module in model.modules():
            if isinstance(module, snn.SpikingNeuron) and hasattr(module, "reset_mem"):
                module.reset_mem()

    def predict(self, model: nn.Module, images: Tensor, time_steps: int) -> Tensor:
        """Class scores of a constant input: the mean over time of the spikes (or currents) the model returns.

        Of neurons that never reset and whose potential it returns, the potential after the last step. A model that
        loops over time gets (T, N, …), or (N, …) where it shows one image in every step itself; one that sums its
        spikes up returns (N, classes).
        """
        if self.time_axis(model) is None:
            self.reset(model)
            return snntorch_loops.scores(model, snntorch_loops.together([model(images) for _ in range(time_steps)]))
        static = self.shows_image(model, images[:1], time_steps)
        return snntorch_loops.scores(model, model(images if static else images.expand(time_steps, *images.shape)))

    def shows_image(self, model: nn.Module, image: Tensor, time_steps: int) -> bool:
        """Where the model's own loop does, as tutorial 5's; the model is left in its mode, its neurons reset."""
        if self.time_axis(model) is None:
            return False
        static = snntorch_loops.is_static(model, image, time_steps)
        self.reset(model)
        return static

    def neuron_time_axis(self, model: nn.Module) -> int | None:
        """None, as neurons take one step per call, but for StateLeaky, which takes all: 0."""
        whole = {isinstance(m, snn.StateLeaky) for m in model.modules() if isinstance(m, snn.SpikingNeuron)}
        if len(whole) > 1:
            raise UnsupportedNeuron(
                "the model mixes StateLeaky, which takes all steps at once, with neurons that take one; use Leaky with"
                ' reset_mechanism="none" and a beta of exp(−(1 − beta)) instead of it'
            )
        return 0 if whole == {True} else None

    def time_axis(self, model: nn.Module) -> int | None:
        """None where all neurons hide their states; 0 where the model has a loop over time, or layers that need none.

        A model of both kinds of neurons owns the loop: it passes states on itself.
        """
        hidden = {bool(m.init_hidden) for m in model.modules() if isinstance(m, snn.SpikingNeuron)}
        return None if hidden == {True} else 0


FRAMEWORK = SnnTorch()
