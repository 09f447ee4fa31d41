"""Where time and batch lie in the tensors of a model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.torch.layers import Output, is_sample
from hw_targets.frontends.torch.marks import ALL, Moment, Traced
from hw_targets.ir.network import Shape


@dataclass(frozen=True)
class Layout:
    """The axes of a model's input.

    Attributes:
        lead: axes before a sample's own: 1 (batch) or 2 (time, batch).
        per_call: axis of a neuron module's input that is time, 0 or -1; None where it takes one step per call.
        batch: sizes of the leading axes.
        steps: size of the axis of time, where the input has one.
        core: shape of a sample in one step: (F,), (C, H, W), or (C, 1, L) for (C, L).
    """

    lead: int
    per_call: int | None
    batch: tuple[int, ...]
    steps: int
    core: Shape

    @classmethod
    def of(cls, example: Tensor, lead: int, per_call: int | None) -> Layout:
        """That of an example.

        Raises:
            UnsupportedModel: a sample has another number of axes than 1 to 3.
        """
        core = tuple(example.shape[lead : -1 if per_call == -1 else None])
        if len(core) == 2:
            core = (core[0], 1, core[1])
        if len(core) not in (1, 3):
            one_step = "(N, C, H, W, T) or (N, F, T)" if per_call == -1 else "(N, C, H, W) or (N, F)"
            raise UnsupportedModel(
                f"from_torch: example_input has shape {tuple(example.shape)}; expected"
                f" {'(T, N, C, H, W) or (T, N, F)' if lead == 2 else one_step}"
            )
        steps = example.shape[-1 if per_call == -1 else 0]
        return cls(lead, per_call, tuple(example.shape[:lead]), int(steps), core)

    @property
    def time_axis(self) -> int:
        """Axis of tensors that hold all steps."""
        return -1 if self.per_call == -1 else 0

    @property
    def has_all_steps(self) -> bool:
        """Whether the model's input holds all steps."""
        return self.lead == 2 or self.per_call == -1

    def output(self, tensor: Tensor, moment: Moment) -> Output:
        """Sizes of a tensor in one step where time comes last, and how many of its axes may come before a sample's own.

        All steps lie along two axes (time, batch), or, around layers that know no time, along one.
        """
        sizes = tuple(int(n) for n in tensor.shape)
        if self.per_call == -1 and moment == ALL:
            sizes = sizes[:-1]
        elif moment == ALL:
            both = sizes[: self.lead] == self.batch if self.lead == 2 else sizes[1:2] == self.batch
            return Output(sizes, (2, 1) if both else (1,))
        return Output(sizes, (1,))

    def has_time(self, tensor: Tensor, moment: Moment) -> bool:
        """Whether the axis of time is still where it was, and only time."""
        if moment != ALL or self.per_call == -1:
            return moment == ALL
        if self.lead == 2:
            return tuple(tensor.shape[:2]) == self.batch
        return tensor.dim() > 1 and tensor.shape[1] == self.batch[0]

    def first_sample(self, tensor: Tensor, mark: Traced) -> Tensor:
        """The first sample of a tensor that holds one step, or all of them, as (steps, *shape)."""
        return self.sample(tensor, mark.signal.shape, whole=mark.moment == ALL)

    def sample(self, tensor: Tensor, shape: Shape, *, whole: bool) -> Tensor:
        """The first sample, (steps, *shape), of a tensor that holds all steps (`whole`) or one."""
        if whole and self.per_call == -1:
            return tensor[0].movedim(-1, 0).reshape(-1, *shape)
        if whole:
            return tensor.reshape(self.steps, -1, *shape)[:, 0]
        return tensor[0].reshape(1, *shape)

    def check_time(self, tensor: Tensor, mark: Traced) -> None:
        """Refuse what neurons, or a max-pool, cannot take as it is.

        Raises:
            UnsupportedModel: the steps of the input are gone, or not where these neurons expect them.
        """
        shape, moment = mark.signal.shape, mark.moment
        sizes = self.output(tensor, moment).shape
        expected = [self.batch] if moment == ALL else [self.batch[-1:]]
        if self.lead == 2 and len(shape) == 3 and moment == ALL:
            # Time and batch as one axis (SeqToANNContainer around a max-pool).
            expected.append((self.batch[0] * self.batch[1],))
        kinds = ("every", "step") if self.per_call is None else ("all",)
        fits = any(sizes[: len(b)] == b and is_sample(sizes[len(b) :], shape) for b in expected)
        if moment.kind not in kinds or not fits:
            raise UnsupportedModel(
                f"sees an input of shape {tuple(tensor.shape)}, without the time steps of the model's input; take the"
                " mean over time after the last neurons"
            )
