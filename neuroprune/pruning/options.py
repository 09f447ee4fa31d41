"""What parameter groups say of pruning: prune, max_sparsity, fan_out."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from neuroprune._numbers import number_of
from neuroprune.pruning.fan_in import Cap, Caps

#: Keys of a parameter group that the pruner reads.
OPTIONS = ("prune", "max_sparsity", "fan_out")


class GroupOptions:
    """Options of an optimizer's groups, parameter by parameter, as they are now.

    Args:
        optimizer: whose groups.
        caps: the pruner's limits on synapses, which a group's stand in place of.
        has_grids: whether parameters are rounded.
    """

    def __init__(self, optimizer: Optimizer, caps: Caps | None, *, has_grids: bool) -> None:
        self.caps = caps
        self._optimizer = optimizer
        self._has_grids = has_grids
        self._first: dict[nn.Parameter, dict[str, Any]] = {}

    def note(self, index: int, parameter: nn.Parameter) -> None:
        """Remember what the group says of a parameter that is seen for the first time."""
        group = self._optimizer.param_groups[index]
        self._first.setdefault(parameter, {key: group[key] for key in OPTIONS if key in group})

    def is_on(self, index: int, parameter: nn.Parameter) -> bool:
        """Whether a parameter is to be pruned, if it can be.

        Raises:
            ValueError: the group says neither True nor False.
        """
        return parameter.requires_grad and is_true(self._of(index, parameter, "prune", True))

    def max_sparsity(self, index: int, parameter: nn.Parameter) -> float:
        """The largest fraction of zeros that a parameter may have.

        Raises:
            ValueError: it is no number in 0 … 1.
        """
        cap = self._of(index, parameter, "max_sparsity", 1.0)
        found = number_of(cap)
        if found is None or not 0 <= found <= 1:
            raise ValueError(
                f"SoftThresholdPruner: max_sparsity of parameter group {index} must be a number in 0 … 1 (a fraction),"
                f" got {cap!r}"
            )
        return found

    def fan_out(self, index: int, parameter: nn.Parameter) -> Cap | None:
        """The limit on what a neuron sends through a parameter: its group's own, none where that says False.

        Raises:
            ValueError: it is no limit, or the pruner has none that it would be in place of.
        """
        common = None if self.caps is None else self.caps.fan_out
        own = self._of(index, parameter, "fan_out", common)
        if own is False or (own is None and common is None):
            return None
        if not isinstance(own, Cap):
            raise ValueError(
                f"SoftThresholdPruner: fan_out of parameter group {index} must be Cap(limit), or False for no limit,"
                f" got {own!r}"
            )
        if common is None:
            if self._has_grids:  # what was pruned within it before is only rounded
                return None
            raise ValueError(
                f"SoftThresholdPruner: parameter group {index} says fan_out={own!r}, but the pruner has no fan_out that"
                " it would be in place of; give the pruner one, too, and fan_out=False to the groups that have none"
            )
        return own

    def _of(self, index: int, parameter: nn.Parameter, key: str, default: Any) -> Any:
        # A group that lost the key (optimizer.load_state_dict replaces groups by the saved ones) stays what it was.
        return self._optimizer.param_groups[index].get(key, self._first[parameter].get(key, default))


def is_true(option: object) -> bool:
    """What a group's `prune` says.

    Raises:
        ValueError: neither True nor False.
    """
    try:
        known = option in (True, False)
    except (RuntimeError, ValueError):  # an array of several elements is neither
        known = False
    if not known:
        raise ValueError(
            f"SoftThresholdPruner: prune of a parameter group must be True or False, got {option!r}; leave it out for"
            " True"
        )
    return bool(option)
