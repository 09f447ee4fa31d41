"""Where time and batch lie in the tensors of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.torch.axes import Axes, letters, of_sample
from hw_targets.frontends.torch.marks import ALL, EVERY, Moment, Traced
from hw_targets.ir.network import Shape


@dataclass(frozen=True)
class Layout:
    """The axes of a model's input.

    Attributes:
        lead: axes before a sample's own: 1 (batch) or 2 (time, batch).
        time_last: whether time is the last axis, in every tensor that holds all steps.
        batch: number of samples.
        steps: size of the axis of time; 0 where no tensor has one yet.
        core: shape of a sample in one step: (F,), (C, H, W), or (C, 1, L) for (C, L).
        time_second: whether the input is (N, T, …), which the model turns round or loops over.
    """

    lead: int
    time_last: bool
    batch: int
    steps: int
    core: Shape
    time_second: bool = False

    @classmethod
    def of(cls, example: Tensor, lead: int, *, time_last: bool, time_second: bool = False) -> Layout:
        """That of an example.

        Raises:
            UnsupportedModel: a sample has another number of axes than 1 to 3.
        """
        core = tuple(example.shape[lead : -1 if time_last else None])
        if len(core) == 2:
            core = (core[0], 1, core[1])
        if len(core) not in (1, 3):
            one_step = "(N, C, H, W, T) or (N, F, T)" if time_last else "(N, C, H, W) or (N, F)"
            raise UnsupportedModel(
                f"from_torch: example_input has shape {tuple(example.shape)}; expected"
                f" {'(T, N, C, H, W) or (T, N, F)' if lead == 2 else one_step}"
            )
        leading = tuple(example.shape[:lead])[:: -1 if time_second else 1]
        steps = example.shape[-1] if time_last else leading[0] if lead == 2 else 0
        return cls(lead, time_last, int(leading[-1]), int(steps), core, time_second)

    @property
    def has_all_steps(self) -> bool:
        """Whether the model's input holds all steps."""
        return self.lead == 2 or self.time_last

    @property
    def moment(self) -> Moment:
        """What of a sample's time the input holds."""
        return ALL if self.has_all_steps else EVERY

    def input_axes(self, example: Tensor) -> Axes:
        """Those of the model's input."""
        own = of_sample(self.core, example.dim() - self.lead - self.time_last)
        if self.time_last:
            return ("N", *own, "T")
        return (*("N" if self.lead == 1 else "NT" if self.time_second else "TN"), *own)

    def sizes(self, shape: Shape) -> Mapping[str, int]:
        """How long each letter is, for signals of this shape."""
        return {"T": self.steps, "N": self.batch, **dict(zip(letters(shape), shape, strict=True))}

    def shown(self, example: Tensor) -> Tensor:
        """The first sample of the model's input, (steps, *shape), of one step where it has no axis of time."""
        turned = example.transpose(0, 1) if self.time_second else example
        return self.sample(turned, self.core, whole=self.has_all_steps)

    def first_sample(self, tensor: Tensor, mark: Traced) -> Tensor:
        """The first sample of a tensor that holds one step, or all of them, as (steps, *shape)."""
        return self.sample(tensor, mark.signal.shape, whole=mark.moment == ALL)

    def sample(self, tensor: Tensor, shape: Shape, *, whole: bool) -> Tensor:
        """The first sample, (steps, *shape), of a tensor that holds all steps (`whole`) or one."""
        if whole and self.time_last:
            return tensor[0].movedim(-1, 0).reshape(-1, *shape)
        if whole:
            return tensor.reshape(self.steps, -1, *shape)[:, 0]
        return tensor[0].reshape(1, *shape)
