"""What a pruner saves of its parameters, and whether a saved state belongs here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neuroprune._numbers import check_number, check_whole, number_of
from neuroprune.pruning.neuron_costs import kind_of
from neuroprune.pruning.parameters import PrunedParameters
from neuroprune.pruning.rounding import Grid
from neuroprune.schedules import LearnedThreshold

_KEYS = frozenset({"step", "thresholds", "l1", "memory", "latents", "masks", "applied", "learned"})


def saved_latents(parameters: PrunedParameters) -> dict[str, Any]:
    """Latent values, masks, grids, thresholds in force, what learned ones come from, by parameter index; references.

    What is in shards is gathered: every process gets all of it, in its own memory.
    """
    shards = parameters.shards

    def whole(value: Any, index: int) -> Any:
        return shards.whole(value, by_index[index]) if isinstance(value, Tensor) else value

    position = parameters.positions()
    latents = {position[p]: latent for p, latent in parameters.everything().items()}
    by_index = {position[p]: p for p in parameters.everything()}
    return {
        "latents": {index: whole(latent.saved(by_index[index]), index) for index, latent in latents.items()},
        "masks": {index: whole(latent.mask, index) for index, latent in latents.items() if latent.mask is not None},
        "applied": {index: whole(latent.threshold, index) for index, latent in latents.items()},
        "learned": {index: (ls.s, ls.velocity) for index, latent in latents.items() if (ls := latent.learned)},
        "usual": {index: float(latent.usual) for index, latent in latents.items() if latent.usual is not None},
        "away": [index for index, latent in latents.items() if latent.away],
        "proximal": repr(parameters.proximal),
        "precondition": repr(parameters.precondition),
        "costs": None if parameters.costs is None else parameters.costs.saved(position),
        "costs_kind": None if parameters.costs is None else kind_of(parameters.costs),
        "grids": {index: latent.grid.state_dict() for index, latent in latents.items() if latent.grid is not None},
    }


def restore_latents(state: dict[str, Any], parameters: PrunedParameters) -> None:
    """Take over what `saved_latents` gave, of which shards take their rows, and write the weights it implies."""
    position, shards = parameters.positions(), parameters.shards

    def here(value: Any) -> Any:
        return shards.part(value) if isinstance(value, Tensor) else value

    for parameter, latent in parameters.everything().items():
        index = position[parameter]
        grid, learned = _at(state.get("grids", {}), index), _at(state["learned"], index)
        saved, mask, applied = (here(_at(state[key], index)) for key in ("latents", "masks", "applied"))
        latent.learned = None if learned is None else LearnedThreshold(*learned)
        latent.away = index in state.get("away", ())
        usual = _at(state.get("usual", {}), index)
        latent.usual = None if usual is None else torch.tensor(usual, dtype=torch.float64)
        latent.restore(parameter, saved, mask, applied, None if grid is None else Grid(**grid))


def restore_costs(state: dict[str, Any], parameters: PrunedParameters) -> None:
    """Take over what costs remembered, or stay as they are.

    Raises:
        ValueError: the state has not what they need.
    """
    if parameters.costs is None:
        return
    position = parameters.positions()
    before = parameters.costs.saved(position)
    try:
        parameters.costs.restore(state["costs"], position)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        parameters.costs.restore(before, position)
        raise ValueError(
            f"SoftThresholdPruner.load_state_dict: the costs of the state are not such as {kind_of(parameters.costs)}"
            f" saves ({type(error).__name__}: {error}); nothing was changed"
        ) from error


def check_state(state: dict[str, Any], parameters: PrunedParameters, groups: int) -> None:
    """Compare a state with the prunable parameters and the number of parameter groups.

    Raises:
        ValueError: the state lacks keys, or belongs to another model, optimizer or schedule.
    """
    where = "SoftThresholdPruner.load_state_dict"
    if not isinstance(state, Mapping):
        raise ValueError(f"{where}: expected what SoftThresholdPruner.state_dict() gives, got a {type(state).__name__}")
    if missing := _KEYS - set(state):
        raise ValueError(
            f"{where}: the state lacks {sorted(missing)}; was it saved by SoftThresholdPruner.state_dict()?"
        )
    _check_values(where, state)
    if len(state["thresholds"]) != groups or len(state["l1"]) != groups:
        raise ValueError(f"{where}: the state has {len(state['thresholds'])} parameter groups, the optimizer {groups}")
    proximal = state.get("proximal", "SoftThreshold()")  # states from before there were others
    if proximal != repr(parameters.proximal):
        raise ValueError(
            f"{where}: the state was saved with proximal={proximal}, this pruner has {parameters.proximal!r}, under"
            " which the same latent values are other weights; give the pruner the saved one; nothing was changed"
        )
    precondition = state.get("precondition", "None")
    if precondition != repr(parameters.precondition):
        raise ValueError(
            f"{where}: the state was saved with precondition={precondition}, this pruner has"
            f" {parameters.precondition!r}, under which the same thresholds mean other weights; give the pruner the"
            " saved one; nothing was changed"
        )
    _check_kind_of_costs(where, state, parameters)
    position = parameters.positions()
    saved = {int(index): tuple(theta.shape) for index, theta in state["latents"].items()}
    here = {position[p]: tuple(p.shape) for p in parameters.everything()}
    if saved != here:
        index = min(i for i in saved.keys() | here.keys() if saved.get(i) != here.get(i))
        raise ValueError(
            f"{where}: the state belongs to another model: parameter {index} has shape {saved.get(index)} in the"
            f" state and {here.get(index)} here; nothing was changed"
        )
    learned = {position[p] for p, latent in parameters.latents.items() if latent.learned is not None}
    if {int(index) for index in state["learned"]} != learned or {int(i) for i in state["applied"]} != set(here):
        raise ValueError(
            f"{where}: the state belongs to another schedule: it has {len(state['learned'])} learned thresholds,"
            f" here are {len(learned)}; nothing was changed"
        )
    grids = {position[p] for p, latent in parameters.everything().items() if latent.grid is not None}
    if {int(index) for index in state.get("grids", {})} != grids:
        raise ValueError(
            f"{where}: the state has {len(state.get('grids', {}))} rounded parameters, here are {len(grids)}; give the"
            " pruner the same rounding=...; nothing was changed"
        )


def _check_kind_of_costs(where: str, state: Mapping[str, Any], parameters: PrunedParameters) -> None:
    if (state.get("costs") is None) != (parameters.costs is None):
        raise ValueError(
            f"{where}: the state was saved {'without' if parameters.costs is not None else 'with'} costs, under which"
            " the same thresholds mean other weights; give the pruner the saved ones; nothing was changed"
        )
    if parameters.costs is None:
        return
    saved, here = state.get("costs_kind"), kind_of(parameters.costs)
    if saved not in (None, here):  # None: from before it was saved
        raise ValueError(
            f"{where}: the state was saved with costs={saved}, this pruner has {here}, which remember something else;"
            " give the pruner the saved ones; nothing was changed"
        )


def _check_values(where: str, state: Mapping[str, Any]) -> None:
    """Refuse what is not of the kind that `state_dict` gives, as in a file that was edited or damaged."""
    for key in ("thresholds", "l1"):
        if not isinstance(state[key], (list, tuple)):
            raise ValueError(f"{where}: the state's {key} is a {type(state[key]).__name__}, not a list by group")
    for key in ("memory", "latents", "masks", "applied", "learned", *(k for k in ("usual", "grids") if k in state)):
        if not isinstance(state[key], Mapping):
            raise ValueError(f"{where}: the state's {key} is a {type(state[key]).__name__}, not a dict")
    if not isinstance(state.get("away", []), (list, tuple)):
        raise ValueError(f"{where}: the state's away is a {type(state['away']).__name__}, not a list of indices")
    check_whole(where, "the state's step", state["step"], 0)
    for value in state["thresholds"]:
        check_number(where, "a threshold of the state", value)
    for index, latent in state["latents"].items():
        if not isinstance(latent, Tensor):
            raise ValueError(f"{where}: latent value {index} of the state is a {type(latent).__name__}, not a tensor")
    for index, mask in state["masks"].items():
        theta = _at(state["latents"], index)
        if not isinstance(mask, Tensor) or not isinstance(theta, Tensor) or mask.shape != theta.shape:
            what = f"a tensor of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else repr(mask)
            raise ValueError(f"{where}: masks {index} of the state is {what}, not a tensor of its parameter's shape")
    numbers = {"l1": dict(enumerate(state["l1"])), "memory": state["memory"], "applied": state["applied"]}
    for key, values in numbers.items():
        for name, value in values.items():
            if number_of(value) is None and not isinstance(value, Tensor):
                raise ValueError(f"{where}: {key} {name} of the state is {value!r}, not a number")
    for index, value in state.get("usual", {}).items():
        check_number(where, f"usual {index} of the state", value)


def _at(by_index: Mapping[Any, Any], index: Any) -> Any:
    # Keys are text after a round trip through JSON-like formats.
    return by_index.get(index, by_index.get(str(index)))
