"""Whether a saved pruner state belongs here."""

from __future__ import annotations

from typing import Any

from torch import nn


def check_state(state: dict[str, Any], by_index: dict[int, nn.Parameter], groups: int) -> None:
    """Compare a state with the prunable parameters by index and the number of parameter groups.

    Raises:
        ValueError: the state lacks keys, or belongs to another model or optimizer.
    """
    where = "SoftThresholdPruner.load_state_dict"
    missing = {"step", "thresholds", "l1", "latents"} - set(state)
    if missing:
        raise ValueError(
            f"{where}: the state lacks {sorted(missing)}; was it saved by SoftThresholdPruner.state_dict()?"
        )
    if len(state["thresholds"]) != groups or len(state["l1"]) != groups:
        raise ValueError(f"{where}: the state has {len(state['thresholds'])} parameter groups, the optimizer {groups}")
    saved = {int(index): tuple(theta.shape) for index, theta in state["latents"].items()}
    here = {index: tuple(p.shape) for index, p in by_index.items()}
    if saved != here:
        index = min(i for i in saved.keys() | here.keys() if saved.get(i) != here.get(i))
        raise ValueError(
            f"{where}: the state belongs to another model: parameter {index} has shape {saved.get(index)} in the"
            f" state and {here.get(index)} here; nothing was changed"
        )
