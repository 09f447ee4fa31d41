"""Whether a run goes on where another one stopped, and the pruner was not told."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakSet

from torch import nn
from torch.optim import Optimizer

from neuroprune.pruning.checks import is_prunable
from neuroprune.pruning.shards import Shards
from neuroprune.pruning.wrappers import check_wrappers

#: Optimizers whose pruner was finalized in this process: what it left are zeros that are meant.
_finished: WeakSet[Optimizer] = WeakSet()

#: So many zeros, as a share of the weights, are no chance.
CHANCE = 0.01


def note_finished(optimizer: Optimizer) -> None:
    """The optimizer's pruner was finalized."""
    _finished.add(optimizer)


class Beginning:
    """What an optimizer and its weights looked like before the pruner was attached, until its first step."""

    def __init__(self, optimizer: Optimizer, shards: Shards) -> None:
        self._shards = shards
        parameters = [p for group in optimizer.param_groups for p in group["params"] if is_prunable(p)]
        self._zeros, self._size = sum(shards.zeros(parameters)), sum(p.numel() for p in parameters)
        self._zeros_after = 0
        self._steps_behind = _has_state(optimizer, parameters) and optimizer not in _finished
        self._loaded = False

    def attached(self, optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
        """The pruner is attached, and may have pruned already."""
        self._zeros_after = sum(self._shards.zeros(parameters))
        self._handle = optimizer.register_load_state_dict_post_hook(self._note_loaded)

    def check(self, optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
        """Refuse the first step of a run that was pruned before and whose pruner's state was not restored.

        Raises:
            TypeError: the optimizer was put into one that exchanges the weights, since.
            RuntimeError: it says by what it was noticed, and what to save.
        """
        check_wrappers(optimizer)
        parameters = list(parameters)
        new = sum(self._shards.zeros(parameters)) - self._zeros_after
        if self._loaded and _has_state(optimizer, parameters):
            found = "the optimizer's state was loaded and has steps behind it"
            other = "if it was dense until now, attach the pruner after optimizer.load_state_dict(...)"
        elif self._loaded and new > 0:
            found = f"the optimizer's state was loaded, and weights of which {new} more are zero than before"
            other = "if they are meant to start so, attach the pruner after loading them"
        elif self._steps_behind and self._zeros > CHANCE * self._size:
            found = f"the optimizer has steps behind it and {self._zeros} of {self._size} weights are zero"
            other = "if those zeros are a new start, build a new optimizer"
        else:
            return
        raise RuntimeError(
            f"SoftThresholdPruner: {found}, but the pruner has taken no step: this looks like a pruned run that is"
            " resumed without the pruner's state, in which the threshold would start again from its beginning; save"
            " pruner.state_dict() beside the model's and the optimizer's and give it to pruner.load_state_dict();"
            f" {other}"
        )

    def close(self) -> None:
        """Look no further."""
        self._handle.remove()

    def _note_loaded(self, _optimizer: Optimizer) -> None:
        self._loaded = True


def _has_state(optimizer: Optimizer, parameters: list[nn.Parameter]) -> bool:
    return any(optimizer.state.get(p) for p in parameters)
