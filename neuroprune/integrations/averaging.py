"""Averages of weights (EMA, SWA) that are sparse: averages of sparse weights are dense where their zeros moved."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def keep_zeros(averaged: nn.Module, model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Zero the averaged weights where the model's are zero: w̄ ← w̄·[w ≠ 0], in place.

        average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
        ...                                                    # train; average.update_parameters(model)
        keep_zeros(average.module, model, pruner.parameters)   # at the end, before or after pruner.finalize()

    A weight that is zero in some steps only has an average that is not, and a mask that moves until the end leaves
    the average denser than any of its models. It keeps the zeros of the model as it is now; statistics of batch-norm
    are to be updated afterwards (`torch.optim.swa_utils.update_bn`).

    Args:
        averaged: the averaged copy of the model: of an `AveragedModel` its `.module`.
        model: the model that was trained.
        parameters: its parameters whose zeros are kept: `pruner.parameters`.

    Raises:
        ValueError: a parameter is not the model's, or the averaged model has none of its name and shape; nothing is
            changed then.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    copies = dict(averaged.named_parameters())
    pairs: list[tuple[Tensor, Tensor]] = []
    for parameter in parameters:
        name = names.get(parameter)
        copy = None if name is None else copies.get(name)
        if copy is None or copy.shape != parameter.shape:
            raise ValueError(
                f"keep_zeros: a parameter of shape {tuple(parameter.shape)},"
                f" {'which is none of the model' if name is None else name}, has no counterpart in the averaged model;"
                " give the model that is trained and its averaged copy (of an AveragedModel its .module)"
            )
        pairs.append((copy, parameter))
    for average, weight in pairs:
        average.masked_fill_((weight == 0).to(average.device), 0.0)
