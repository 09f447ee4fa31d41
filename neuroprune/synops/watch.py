"""What a model does while it runs: its functions, seen one by one, and the modules that call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from neuroprune.frameworks import spikes_of
from neuroprune.synops.call import Call
from neuroprune.synops.following import follow, is_missed, together
from neuroprune.synops.known import Data, Known, Weight
from neuroprune.synops.names import ATTRIBUTES, EXPOSING, LAYERS, PRODUCTS
from neuroprune.synops.quiet import Quiet
from neuroprune.synops.writing import before_writing

#: A module that runs, and how many products had been counted when it started.
Frame = tuple[nn.Module, int]


class Watch(TorchFunctionMode):
    """Follows spikes through the functions of a model, and reports each product.

    Attributes:
        known: what is known of its tensors.
        inside: the modules that run, the innermost last.
        missed: functions that multiply in a way that is not counted, and the module that called them.
        unseen: layers that ran, but computed no product that was seen.
    """

    def __init__(
        self,
        neurons: frozenset[nn.Module],
        layers: frozenset[nn.Module],
        quiet: Quiet,
        product: Callable[[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], None],
        layer: Callable[[nn.Module, Tensor], None],
    ) -> None:
        """Modules, and who is told of every product.

        Args:
            neurons: whose output is spikes by definition.
            layers: modules that should compute a product.
            quiet: modules whose functions need not be watched.
            product: called with the name of a function, the function, and its arguments.
            layer: called with a quiet layer and its input.
        """
        super().__init__()
        self.known = Known()
        self.inside: list[Frame] = []
        self.missed: dict[tuple[nn.Module | None, str], None] = {}
        self.unseen: dict[nn.Module, None] = {}
        self._products = 0
        self._neurons, self._layers, self._quiet = neurons, layers, quiet
        self._product, self._layer = product, layer
        self._sending = 0
        self._own: frozenset[nn.Module] = frozenset()
        self._still: tuple[nn.Module, Any] | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        is_product = name in PRODUCTS
        if name in ATTRIBUTES or (self._sending and not is_product):
            return func(*args, **given)
        marks = [
            m for t in _tensors((*args, *given.values()) if given else args) if (m := self.known.of(t)) is not None
        ]
        if not marks and not is_product:
            return func(*args, **given)
        before = before_writing(name, args, self.known)
        result = func(*args, **given)
        results = tuple(_tensors((args[0] if name == "__setitem__" else result,)))
        if is_product:
            self._products += 1
            self._product(name, func, args, given)
            weights = [m for m in marks if isinstance(m, Weight)]
            for x in results:
                prepared = len(weights) == len(marks) > 0 and name not in LAYERS
                self.known.set(x, together(weights) if prepared else Data())
            return result
        call = Call(name, func, args, given, results, self.known, before)
        if is_missed(call, marks):
            self.miss(name)
        if name in EXPOSING:
            self.known.set(args[0], Data())
            self.known.written(args[0])
        if results:
            follow(call, marks)
            if name == "__setitem__" or (name[-1] == "_" and name[-2] != "_") or "out" in given:
                self.known.written(results[0])
        return result

    def hooks(self, model: nn.Module) -> Iterator[RemovableHandle]:
        """Registers what keeps `inside`: one pair for all modules, of which those of the model are looked at."""
        self._own, self._still = frozenset(model.modules()), None
        yield register_module_forward_pre_hook(self._enter)
        yield register_module_forward_hook(self._leave, always_call=True)

    def miss(self, name: str) -> None:
        """Note a function that multiplies in a way that is not counted."""
        self.missed[self.inside[-1][0] if self.inside else None, name] = None

    def given(self, inputs: Any, *, analog: bool) -> None:
        """Note what a model is given: tensors, in whatever they are packed."""
        for x in _tensors((inputs,)):
            mark = self.known.of(x)
            if not isinstance(mark, Data) or (analog and not mark.is_spikes):
                self.known.set(x, Data(analog=analog))

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._still is not None or module not in self._own or _is_unwatched():
            return
        self.inside.append((module, self._products))
        self._sending += module in self._neurons
        if not self._quiet.knows(module):
            return
        # What is asked of tensors from here on needs no watching either.
        guard = torch._C.DisableTorchFunction()
        guard.__enter__()
        self._still = module, guard
        try:
            if not self._quiet.holds(module, args):
                self._wake()
            elif module in self._quiet.products:
                self._products += 1
                # Before the layer runs: its input was just written, and is still in the cache.
                self._layer(module, args[0])
        except BaseException:
            self._wake()
            raise

    def _wake(self) -> None:
        """Watch functions again."""
        if self._still is not None:
            self._still[1].__exit__(None, None, None)
            self._still = None

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        still = self._still
        if still is not None:
            if still[0] is module:
                try:
                    self._left(module, args, output, quiet=True)
                finally:
                    self._wake()
            return
        if module in self._own and not _is_unwatched():
            with torch._C.DisableTorchFunction():
                self._left(module, args, output, quiet=False)

    def _left(self, module: nn.Module, args: Any, output: Any, *, quiet: bool) -> None:
        while self.inside:
            last, before = self.inside.pop()
            if last is module:
                break
        else:
            before = -1
        if module in self._layers and before == self._products and output is not None:
            self.unseen[module] = None
        if module in self._neurons:
            self._sending -= 1
            if output is not None:
                self.known.set(spikes_of(output), Data(is_spikes=True, most=1))
        elif quiet:
            self._learn(module, args[0], output)
        elif not self._sending:
            for x in _tensors((output,)):
                if not self.known.has(x) and any(self.known.data(a) is not None for a in _tensors(args)):
                    self.known.set(x, Data())  # computed where no function of torch was called

    def _learn(self, module: nn.Module, x: Tensor, output: Any) -> None:
        """Note what a quiet layer returned, as if its functions had been watched."""
        if not isinstance(output, Tensor):
            return
        mark = self.known.data(x)
        if module in self._quiet.products:
            self.known.set(output, Data())
        elif mark is not None:
            self.known.set(output, Data(analog=mark.analog))


def _is_unwatched() -> bool:
    """Whether somebody runs a model for a trial that nobody shall see (`neuroprune.frameworks.trial`)."""
    return torch._C._is_torch_function_all_disabled()


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())
