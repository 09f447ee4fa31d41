"""Runs a population of DYNAP-CNN's neurons over all steps of a block of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from hw_targets.emulation.currents import bias_of
from hw_targets.errors import InvalidNetwork
from hw_targets.ir.dynamics import Feedback, Losses
from hw_targets.ir.network import Population
from hw_targets.targets.dynapcnn.arithmetic import MOST_SENT, STATE_HIGH, STATE_LOW
from hw_targets.targets.dynapcnn.dynamics.step import step


class Integers(Protocol):
    """An `IAF`."""

    @property
    def v_threshold(self) -> int: ...

    @property
    def v_min(self) -> int: ...

    @property
    def subtracts(self) -> bool: ...


class DynapcnnEngine:
    """Steps one after the other, all samples and neurons at once, in whole numbers of 32 bits."""

    def __init__(self, population: Population, losses: Losses) -> None:
        """See `Dynamics.engine`."""
        self._population, self._losses = population, losses
        self._neuron = cast(Integers, population.neuron)

    def fire(self, current: Tensor, feedback: Feedback | None) -> Tensor:
        """See `Engine.fire`.

        Raises:
            InvalidNetwork: a neuron sends more spikes in a step than a byte holds; or a population that feeds itself.
        """
        if feedback is not None:
            raise InvalidNetwork(f"{self._population.name} feeds itself; a core of DYNAP-CNN has no such synapses")
        neuron, bias = self._neuron, bias_of(self._population, current).to(torch.int32)
        spikes = torch.empty(current.shape, dtype=torch.uint8, device=current.device)
        potential = torch.zeros(current.shape[1:], dtype=torch.int32, device=current.device)
        for t, arriving in enumerate(current):
            whole = arriving.to(torch.int32) + bias
            self._note_overflow(potential + whole, t)
            sent, potential = step(
                potential, whole, v_threshold=neuron.v_threshold, v_min=neuron.v_min, subtracts=neuron.subtracts
            )
            self._check_most(sent, t)
            spikes[t] = sent
        return spikes

    def _note_overflow(self, charged: Tensor, t: int) -> None:
        """What 16 bits do not hold: above, where sinabs goes on counting; below, unless the model is cut off there."""
        beyond = charged > STATE_HIGH
        if self._neuron.v_min == STATE_LOW:
            beyond |= charged < STATE_LOW
        if bool(beyond.any()):
            self._losses.note(t, None, beyond.numpy(force=True))

    def _check_most(self, sent: Tensor, t: int) -> None:
        most = int(sent.max()) if sent.numel() else 0
        if most > MOST_SENT:
            raise InvalidNetwork(
                f"{self._population.name}: a neuron sends {most} spikes in step {t}, and up to {MOST_SENT} are counted;"
                " show the input in more and shorter steps, or raise the threshold"
            )

    def read(self, current: Tensor, ends: Sequence[int]) -> Tensor:
        """Never asked: every core's neurons fire.

        Raises:
            InvalidNetwork: always.
        """
        del current, ends
        raise InvalidNetwork(f"{self._population.name} is read out without firing; DYNAP-CNN's cores all fire")
