"""Which modules hold a parameter: an optimizer knows tensors alone, and some of them are no weights.

A parametrized module (`torch.nn.utils.parametrize`, `weight_norm`, `spectral_norm`, `orthogonal`) computes with a
weight that it makes from its parameters at every forward pass: zeros in them need not be zeros in the weight, and a row
that becomes empty is divided by its own norm of 0.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList


def check_owners(parameters: Iterable[nn.Parameter], *, sharded: bool = False) -> None:
    """Refuse parameters that a weight is made from, and that are not the weight itself.

    Of parameters in shards it refuses those in whose place the model holds gathered ones, which FSDP2 leaves there from
    a forward pass until the backward pass: what a pruner writes would not reach them.

    The modules are looked for among all live objects, once: about 0.1 s.

    Raises:
        ValueError: there is one; it names the parametrization, or the gathered parameter, and what to do.
    """
    wanted = {id(parameter): parameter for parameter in parameters}
    owned = set[int]()
    for module in _modules() if wanted else ():
        for name, parameter in module._parameters.items():
            if parameter is None or id(parameter) not in wanted:
                continue
            owned.add(id(parameter))
            if (maker := _maker(module, name)) is not None:
                raise ValueError(
                    f"SoftThresholdPruner: a parameter of shape {tuple(parameter.shape)} is not a weight but what"
                    f" {maker} makes one from: its zeros need not be zeros of the weight, and a part that becomes all"
                    " zero can divide by 0; before building the optimizer make it a plain weight again"
                    f" ({_remedy(module)}), or leave it out with a group that says prune=False"
                )
    for parameter in wanted.values() if sharded else ():
        if id(parameter) not in owned:
            raise ValueError(
                f"SoftThresholdPruner: no module holds the parameter of shape {tuple(parameter.shape)}, which is in"
                " shards: after a forward pass without a backward pass FSDP2 leaves gathered weights in its place, and"
                " goes on with those; call model.reshard() before the pruner is made"
            )


def _modules() -> Iterator[nn.Module]:
    for thing in gc.get_objects():
        if issubclass(type(thing), nn.Module) and "_parameters" in getattr(thing, "__dict__", {}):
            yield thing


def _maker(module: nn.Module, name: str) -> str | None:
    """What makes a weight from this parameter of the module, None if it is one itself."""
    if isinstance(module, ParametrizationList):
        return " and ".join(type(step).__name__.lstrip("_") for step in module)
    for hook in module._forward_pre_hooks.values():  # torch.nn.utils.weight_norm and spectral_norm, the older ones
        weight = getattr(hook, "name", None)
        old = isinstance(weight, str) and type(hook).__name__ in ("WeightNorm", "SpectralNorm")
        if old and name in (f"{weight}_g", f"{weight}_v", f"{weight}_orig"):
            return type(hook).__name__
    return None


def _remedy(module: nn.Module) -> str:
    if isinstance(module, ParametrizationList):
        return "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')"
    return "torch.nn.utils.remove_weight_norm(module) or remove_spectral_norm(module)"
