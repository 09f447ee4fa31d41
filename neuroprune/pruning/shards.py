"""Parameters in shards, as FSDP2's `fully_shard` leaves them: what is here of a tensor, and what is asked of all.

Every process holds some whole rows of each parameter, a DTensor, and takes the same decisions as all others: counts are
summed, ranks are found and sums are formed over all shards. Rows that only fill up an uneven shard are no part of the
DTensor, and count as nothing. All else in this package works on what is here, and knows no processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

#: Bits of a number that are ranked at once: a histogram of 2¹⁶ counts, 512 KiB, is summed over the processes.
DIGIT = 16


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: the storage behind a DTensor, any other one itself. Nothing is sent."""
    kind = type(tensor)
    if kind is Tensor or kind is nn.Parameter or not hasattr(tensor, "to_local"):
        return tensor
    with torch.no_grad():  # else a view of it
        found: Tensor = tensor.to_local()
    return found


@dataclass(frozen=True)
class Shards:
    """The processes over which parameters are split into rows. Without a mesh there are none, and nothing is sent.

    All processes of the mesh must call a method that sends anything, and in the same order. All that is sent is exact:
    whole numbers, comparisons, and values as they are.

    Args:
        mesh: of the parameters' DTensors; None where parameters are whole.
        axis: of the mesh, along which rows are split; along others all hold the same.
    """

    mesh: DeviceMesh | None = None
    axis: int = 0

    @property
    def sharded(self) -> bool:
        """Whether parameters are in shards at all."""
        return self.mesh is not None

    def sums(self, counts: Sequence[int]) -> list[int]:
        """Sums over all shards; sends as many numbers."""
        if self.mesh is None or not counts:
            return list(counts)
        return [int(n) for n in self._reduced(torch.tensor(counts, dtype=torch.int64)).tolist()]

    def sum(self, count: int) -> int:
        """The sum over all shards; sends one number."""
        return self.sums([count])[0]

    def any(self, found: bool) -> bool:
        """Whether it is so for any shard; sends one number."""
        return self.sum(int(found)) > 0

    def largest(self, values: Tensor) -> Tensor:
        """The largest value of all shards, 0-dim; −∞ for none; sends one number."""
        if self.mesh is None:
            return values.max()
        found = values.max() if values.numel() else values.new_full((), -torch.inf)
        return self._reduced(found.reshape(1), largest=True)[0]

    def zeros(self, parameters: Iterable[Tensor]) -> list[int]:
        """Zeros of each parameter, in all shards together; sends as many numbers."""
        parts = [local(p.detach()) for p in parameters]
        return self.sums([p.numel() - int(torch.count_nonzero(p)) for p in parts])

    def smallest(self, values: Tensor, k: int) -> Tensor:
        """The k-th smallest of all shards' values, k from 1, 0-dim: what `torch.kthvalue` gives for all in one tensor.

        Over shards the bits of the number are found from the highest down, 16 at a time, by a histogram of those that
        agree so far: two sums over the processes in single precision, four in double. It takes two integers of that
        size for each value that is here, and no value is sent.

        Args:
            values: (n,), in single or double precision; NaN counts as larger than any number.
            k: at most the number of values in all shards.
        """
        if self.mesh is None:
            return torch.kthvalue(values, k).values
        keys, size = _ordered(values), 8 * values.element_size()
        flip = 1 << DIGIT - 1  # of the sign, so that negative keys come first
        found = 0
        for shift in range(size - DIGIT, -1, -DIGIT):
            digits = (keys >> shift) & (1 << DIGIT) - 1
            digits = digits ^ flip if shift == size - DIGIT else digits
            counts = self._reduced(torch.bincount(digits, minlength=1 << DIGIT))
            below = counts.cumsum(0)
            digit = int(torch.searchsorted(below, k))
            k -= int(below[digit] - counts[digit])
            keys = keys[digits == digit]
            found = (found << DIGIT) + digit
        return _value(found - (1 << size - 1), values)

    def whole(self, part: Tensor, parameter: Tensor) -> Tensor:
        """All rows of a tensor of which every process has those of its shard of `parameter`; every process gets them.

        Args:
            part: (rows here, …).
            parameter: whose rows, (rows, …).

        Returns:
            (rows, …); `part` itself where parameters are whole.
        """
        if self.mesh is None:
            return part
        from torch.distributed.tensor import DTensor, Replicate, Shard

        shape = torch.Size((parameter.shape[0], *part.shape[1:]))
        placements = [Shard(0) if axis == self.axis else Replicate() for axis in range(self.mesh.ndim)]
        # A bool is sent as a byte: not every backend knows it.
        sent = part.contiguous().view(torch.uint8) if part.dtype == torch.bool else part.contiguous()
        stride = torch.empty(shape, device="meta").stride()
        spread = DTensor.from_local(sent, self.mesh, placements, run_check=False, shape=shape, stride=stride)
        return spread.full_tensor().view(part.dtype).to(part.device)

    def part(self, whole: Tensor) -> Tensor:
        """The rows of this process's shard; nothing is sent.

        Args:
            whole: (rows, …).

        Returns:
            (rows here, …); `whole` itself where parameters are whole.
        """
        if self.mesh is None:
            return whole
        chunks, here = torch.chunk(whole, self.mesh.size(self.axis)), int(self.mesh.get_local_rank(self.axis))
        return chunks[here] if here < len(chunks) else whole[:0]  # more processes than rows

    def check(self, parameter: Tensor) -> None:
        """Refuse a parameter that is not split over these processes, or not split at all while others are.

        Raises:
            ValueError: it is such, or one of which a process holds no whole rows.
        """
        if (found := shards_of(parameter)) == self:
            return
        kinds = ("whole", "a DTensor, in shards") if found.sharded else ("a DTensor, in shards", "whole")
        if found.sharded and self.sharded:
            kinds = (f"a DTensor on {self.mesh}", f"one on {found.mesh}")
        raise ValueError(
            f"SoftThresholdPruner: a parameter of shape {tuple(parameter.shape)} is {kinds[1]}, and the first pruned"
            f" parameter of the optimizer is or was {kinds[0]}; thresholds are of all of them together: call"
            " fully_shard on the whole model, over one mesh, before the optimizer and the pruner are made, or leave it"
            " out with a group that says prune=False"
        )

    def _reduced(self, values: Tensor, *, largest: bool = False) -> Tensor:
        """The sum, or the largest, of each value over the shards, on the device the values have."""
        assert self.mesh is not None
        distributed = torch.distributed
        operation = distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM
        sent = values.to(self.mesh.device_type, copy=True)
        distributed.all_reduce(sent, operation, group=self.mesh.get_group(self.axis))
        return sent.to(values.device)


#: Of parameters that are whole.
WHOLE = Shards()


def shards_of(parameter: Tensor) -> Shards:
    """The processes over which a parameter is split.

    Raises:
        ValueError: it is a handle of tensors elsewhere in another way than `fully_shard` makes.
    """
    if not hasattr(parameter, "__tensor_flatten__"):  # a tensor that wraps others
        return WHOLE
    shape = tuple(parameter.shape)
    other = "or leave it out with a group that says prune=False"
    mesh, placements = (getattr(parameter, name, None) for name in ("device_mesh", "placements"))
    if mesh is None or placements is None:
        raise ValueError(
            f"SoftThresholdPruner: a parameter of shape {shape} is a {type(parameter).__name__}, a handle of tensors"
            " elsewhere: the optimizer's updates of a latent value would never reach the model; train with plain"
            f" parameters, {other}"
        )
    from torch.distributed.tensor import Replicate, Shard

    split = [axis for axis, place in enumerate(placements) if not isinstance(place, Replicate)]
    if len(split) != 1 or type(placements[split[0]]) is not Shard or placements[split[0]].dim != 0:
        raise ValueError(
            f"SoftThresholdPruner: a parameter of shape {shape} is a DTensor placed as {tuple(placements)}, as tensor"
            " parallelism may do it: its rows are cut, or a process holds none of its own, and what a neuron receives"
            " is asked of whole rows; split rows over one axis of the mesh, Shard(0), as FSDP2's fully_shard does,"
            f" train with DistributedDataParallel, {other}"
        )
    return Shards(mesh, split[0])


def _ordered(values: Tensor) -> Tensor:
    """Integers of the same size in the order of the values: their bits, all but the sign's flipped where it is set."""
    kind, last = (torch.int32, 31) if values.element_size() == 4 else (torch.int64, 63)
    plain = torch.where(values.isnan(), torch.nan, values + 0.0)  # one NaN, which is positive, and no −0
    bits = plain.view(kind)
    return bits ^ ((bits >> last) & torch.iinfo(kind).max)


def _value(key: int, like: Tensor) -> Tensor:
    """The value whose `_ordered` integer it is, 0-dim, in the dtype and on the device of `like`."""
    kind = torch.int32 if like.element_size() == 4 else torch.int64
    bits = torch.tensor(key ^ torch.iinfo(kind).max if key < 0 else key, dtype=kind, device=like.device)
    return bits.view(like.dtype)
