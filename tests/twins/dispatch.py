"""Synaptic operations as PyTorch's dispatcher sees them, an independent second count.

Nothing is known of modules here, nor of functions: only the operators that are left when torch has decomposed them, the
values of their tensors, and which memory holds data. Beside memory that holds scaled or pooled sums of spikes lies a
shadow with the numbers of spikes, so that views and writes need no rules. Each product is done a second time with those
and with ones in place of weights. Everything stays alive, so that no memory is used twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

_COPIES = {
    "clone",
    "_to_copy",
    "index",
    "repeat",
    "flip",
    "roll",
    "constant_pad_nd",
    "upsample_nearest2d",
    "lift_fresh",
}
_MEANS = {"mean", "avg_pool2d", "_adaptive_avg_pool2d"}
_SHAPES = {"zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "new_zeros", "new_ones"} | {
    *("new_full", "new_empty", "zeros", "empty", "ones", "full"),
}
_RULES = {
    "cat": "_cat",
    "stack": "_cat",
    "copy": "_copy",
    "mul": "_scaled",
    "div": "_scaled",
    "add": "_added",
    "sub": "_subtracted",
    "rsub": "_subtracted",
    "pow": "_powered",
    "sqrt": "_powered",
    "where": "_chosen",
    "masked_fill": "_filled",
    "sum": "_sum",
    "mean": "_sum",
    "avg_pool2d": "_avg",
    "_adaptive_avg_pool2d": "_adaptive",
    "max_pool2d_with_indices": "_largest",
}


class DispatchCount(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Counts while it is entered: `synops`, `dense`, `macs` and `dense_macs`, as `neuroprune.SynOps` has them."""

    def __init__(self, inputs: Any, weights: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.synops = self.dense = self.macs = self.dense_macs = 0
        self._alive: list[Any] = [inputs]
        self._data: set[int] = set()
        self._shadows: dict[int, Tensor] = {}
        self._pooled: set[int] = set()
        for x in _tensors(inputs):
            self._data.add(_memory(x))
        self._weights = {_memory(w) for w in weights if w.dim() >= 2}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given, name = kwargs or {}, func.overloadpacket.__name__
        among = _tensors((args, given))
        read = {_memory(x) for x in among}
        is_data = not read.isdisjoint(self._data)
        product = self._product(name, args)
        counts = self._counts_after(name, func, args, given, read) if is_data else None
        result = func(*args, **given)
        results = _tensors(result)
        self._alive.append((args, given, result))
        if product is not None:
            self._count(*product)
        if name not in _SHAPES and is_data:
            self._data.update(_memory(x) for x in results)
        elif not read.isdisjoint(self._weights):
            self._weights.update(_memory(x) for x in results)
        for x, c in zip(results, [*_tensors(counts), *[None] * len(results)], strict=False):
            if c is not None or (name[-1] == "_" and _memory(x) in self._shadows):
                self._note(x, c)
            if c is not None and (name in _MEANS or not read.isdisjoint(self._pooled)):
                self._pooled.add(_memory(x))
        return result

    def _is_data(self, x: Tensor) -> bool:
        return _memory(x) in self._data

    def _note(self, x: Tensor, counts: Tensor | None) -> None:
        """Write to the shadow of a tensor's memory."""
        if _memory(x) not in self._shadows:
            size = x.untyped_storage().nbytes() // x.element_size()
            self._shadows[_memory(x)] = _by_value(x.detach().as_strided((size,), (1,), 0))
        self._shadow(x).copy_(_by_value(x) if counts is None else counts)

    def _is_tracked(self, x: Tensor) -> bool:
        return _memory(x) in self._shadows

    def _shadow(self, x: Tensor) -> Tensor:
        return self._shadows[_memory(x)].as_strided(x.shape, x.stride(), x.storage_offset())

    def _spikes(self, x: Tensor) -> Tensor:
        """Numbers of spikes, NaN where a value is none."""
        return self._shadow(x) if self._is_tracked(x) else _by_value(x)

    def _counts_after(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], read: set[int]
    ) -> Tensor | None:
        """Numbers of spikes of a result in memory of its own; None where its values are to tell."""
        tracked = not read.isdisjoint(self._shadows)
        plain = name.removesuffix("_")
        if tracked and name in _COPIES:
            counts: Tensor = self._spikes(args[0]).clone()
            return counts if name in ("_to_copy", "clone") else func(counts, *args[1:], **kwargs)
        if plain not in _RULES or (plain in ("cat", "stack", "copy", "add", "sum") and not tracked):
            return None
        found: Tensor | None = getattr(self, _RULES[plain])(func, *args, **kwargs)
        return None if found is None or bool(found.isnan().any()) else found

    def _cat(self, func: Any, parts: list[Tensor], *args: Any) -> Tensor:
        joined: Tensor = func([self._spikes(p) for p in parts], *args)
        return joined

    def _copy(self, _func: Any, x: Tensor, y: Tensor, *_: Any) -> Tensor:
        return self._spikes(y).expand(x.shape).clone()

    def _scaled(self, func: Any, x: Any, y: Any) -> Tensor | None:
        shape = (torch.as_tensor(x) * torch.as_tensor(y)).shape
        data = [isinstance(v, Tensor) and self._is_data(v) for v in (x, y)]
        if all(data):
            one, other = self._spikes(x), self._spikes(y)
            known = any(self._is_tracked(v) for v in (x, y)) and "mul" in str(func)
            known = known and not any(_memory(v) in self._pooled for v in (x, y))
            return one * other if known else None
        if data[1]:
            if "div" in str(func):
                return None
            x, y = y, x
        used = (y != 0).double() if isinstance(y, Tensor) else float(y != 0)
        return (self._spikes(x) * used).expand(shape)

    def _added(self, _func: Any, x: Any, y: Any, alpha: Any = 1) -> Tensor | None:
        if alpha != 1:
            return None
        sides = [v for v in (x, y) if isinstance(v, Tensor) and (self._is_data(v) or bool(v.any()))]
        if any(not self._is_data(v) for v in sides) or any(not isinstance(v, Tensor) and v != 0 for v in (x, y)):
            return None
        shape = (torch.as_tensor(x) * torch.as_tensor(y)).shape
        return sum((self._spikes(v) for v in sides), torch.zeros(shape, dtype=torch.float64))

    def _subtracted(self, _func: Any, x: Any, y: Any, alpha: Any = 1) -> Tensor | None:  # noqa: ARG002 - torch's
        sides = [v for v in (x, y) if isinstance(v, Tensor) and (self._is_data(v) or bool(v.any()))]
        if any(not self._is_data(v) for v in sides) or any(not isinstance(v, Tensor) and v != 0 for v in (x, y)):
            return None
        shape = (torch.as_tensor(x) * torch.as_tensor(y)).shape
        return sum((self._spikes(v) for v in sides), torch.zeros(shape, dtype=torch.float64))

    def _powered(self, _func: Any, x: Tensor, exponent: Any = 0.5) -> Tensor | None:
        counts = self._spikes(x) if isinstance(x, Tensor) else torch.full((), torch.nan)
        binary = bool(((counts == 0) | (counts == 1)).all()) and isinstance(exponent, (int, float)) and exponent > 0
        return counts.clone() if binary else None

    def _chosen(self, _func: Any, condition: Tensor, x: Any, y: Any) -> Tensor | None:
        nothing = [
            not (isinstance(v, Tensor) and self._is_data(v)) and not bool(torch.as_tensor(v).any()) for v in (x, y)
        ]
        if not any(nothing):
            return None
        value, mask = (y, ~condition) if nothing[0] else (x, condition)
        if isinstance(value, Tensor) and self._is_data(value):
            counts = self._spikes(value)
        elif self._is_data(condition):
            counts = (torch.as_tensor(value) != 0).double()
        else:
            return None
        shape = (torch.as_tensor(x) * torch.as_tensor(y) * condition).shape
        return torch.where(mask, counts, 0.0).expand(shape).clone()

    def _filled(self, _func: Any, x: Tensor, mask: Tensor, value: Any) -> Tensor | None:
        if bool(torch.as_tensor(value).any()) or not self._is_data(x):
            return None
        return torch.where(mask, 0.0, self._spikes(x))

    def _sum(self, _func: Any, x: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
        counts = self._spikes(x)
        return counts.sum() if dim is None else counts.sum(dim, keepdim)

    def _avg(
        self, _func: Any, x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, ceil: bool = False, *_: Any
    ) -> Tensor:
        return F.avg_pool2d(self._spikes(x), kernel, stride or None, padding, ceil, divisor_override=1)

    def _adaptive(self, _func: Any, x: Tensor, size: Any) -> Tensor:
        counts = self._spikes(x)
        height, width = x.shape[-2:]
        rows = [slice(i * height // size[0], -(-(i + 1) * height // size[0])) for i in range(size[0])]
        columns = [slice(i * width // size[1], -(-(i + 1) * width // size[1])) for i in range(size[1])]
        return torch.stack([torch.stack([counts[..., r, c].sum((-2, -1)) for c in columns], -1) for r in rows], -2)

    def _largest(self, _func: Any, x: Tensor, *args: Any) -> Tensor | None:
        if not self._is_tracked(x):
            return None
        counts = self._spikes(x)
        _, index = aten.max_pool2d_with_indices(x, *args)
        return counts.flatten(-2).gather(-1, index.flatten(-2)).reshape(index.shape)

    def _product(self, name: str, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Factors, what multiplies them, and whether the second is a layer's weight by its place."""
        if name == "convolution":
            rest = args[3:]
            x, weight = args[:2]
            return x, weight, lambda a, b: aten.convolution(a, b, None, *rest), True
        if name in ("mm", "bmm", "mv", "dot"):
            left, right = args[:2]
            return left, right, lambda a, b: getattr(torch, name)(a, b), False
        if name in ("addmm", "baddbmm", "addmv", "addmm_"):
            plain = {"addmm": torch.mm, "addmm_": torch.mm, "baddbmm": torch.bmm, "addmv": torch.mv}[name]
            return args[1], args[2], plain, False
        return None

    def _count(self, left: Tensor, right: Tensor, multiply: Callable[..., Tensor], is_layer: bool) -> None:
        data = [self._is_data(left) or is_layer, self._is_data(right)]
        if not any(data):
            # Computed from data where the dispatcher could not see it, unless both are weights.
            data = [_memory(x) not in self._weights for x in (left, right)]
            if data[0] == data[1]:
                return
        ways = []
        for index, (x, other) in enumerate(((left, right), (right, left))):
            counts = self._spikes(x)
            if not data[index] or bool(counts.isnan().any()):
                continue
            alive = (other != 0).double()
            pairs = [(counts, alive), (counts, torch.ones_like(alive))]
            ways.append([int(multiply(*(p if index == 0 else p[::-1])).sum()) for p in pairs])
        if ways:
            synops, dense = min(ways)
            self.synops, self.dense = self.synops + synops, self.dense + dense
            return
        everything = [torch.ones_like(x, dtype=torch.float64) for x in (left, right)]
        used = [e if d else (x != 0).double() for e, d, x in zip(everything, data, (left, right), strict=True)]
        self.macs += int(multiply(*used).sum())
        self.dense_macs += int(multiply(*everything).sum())


def dispatch_count(model: nn.Module, inputs: Any, forward: Callable[[nn.Module, Any], object]) -> DispatchCount:
    """Run a model as `count_synops` does."""
    mode = DispatchCount(inputs, list(model.parameters()))
    with torch.no_grad(), mode:
        forward(model, inputs)
    return mode


def _by_value(x: Tensor) -> Tensor:
    values = x.detach().double()
    return torch.where((values >= 0) & (values == values.floor()), values, torch.nan)


def _memory(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    left = [values]
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            left.extend(reversed(value))
        elif isinstance(value, dict):
            left.extend(reversed(list(value.values())))
    return found
