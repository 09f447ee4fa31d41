"""What snnTorch models take for a whole sample, and what of their answers counts."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from neuroprune._require import require
from neuroprune.frameworks.trial import unwatched

snn = require("snntorch", "snntorch")


def is_static(model: nn.Module, image: Tensor, time_steps: int) -> bool:
    """Whether a model that loops over time shows one image (1, …) in every step, and does not take (T, N, …).

    One that loops over the steps of its input takes this for a single step without a batch, or fails. The model is left
    in its mode, but with states; who watches or counts what it does sees nothing of this.
    """
    seen: list[int] = []
    first = next(m for m in model.modules() if isinstance(m, snn.SpikingNeuron))
    with unwatched(model):
        handle = first.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
        try:
            model.eval()(image)
        except (RuntimeError, ValueError, IndexError, TypeError):
            return False
        finally:
            handle.remove()
    return len(seen) > 1 or (time_steps == 1 and seen == [1])


def together(outputs: Sequence[Any]) -> Any:
    """What a model returned in every step, (N, …) or a tuple of such, along an axis of time."""
    if isinstance(outputs[0], Tensor):
        return torch.stack(list(outputs))
    return tuple(torch.stack([output[i] for output in outputs]) for i in range(len(outputs[0])))


def scores(model: nn.Module, output: Any) -> Tensor:
    """(N, classes): the mean over time of the spikes or currents (the first thing) that a model returned.

    Where its last neurons are a readout, the last potential (the last thing).
    """
    parts = output if isinstance(output, tuple) else (output,)
    reads = _reads_potential(model, parts)
    values = _whole(parts[-1 if reads else 0])
    if values.dim() <= 2:
        return values
    return values[-1] if reads else values.mean(0)


def _whole(recorded: Tensor | Sequence[Tensor]) -> Tensor:
    return recorded if isinstance(recorded, Tensor) else torch.stack(list(recorded))


def _reads_potential(model: nn.Module, parts: tuple[Any, ...]) -> bool:
    """Whether a model's last neurons can never fire, or never reset and the model returns what is no spike alone."""
    last: Any = [m for m in model.modules() if isinstance(m, snn.SpikingNeuron)][-1]
    if bool((last.threshold == inf).all()):
        return True
    values = _whole(parts[0])
    return len(parts) == 1 and last.reset_mechanism == "none" and not bool(((values == 0) | (values == 1)).all())
