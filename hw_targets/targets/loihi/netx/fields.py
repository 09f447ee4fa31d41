"""The entries of one netx layer as checked integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw_targets.errors import InvalidFile, UnsupportedModel
from hw_targets.files.hdf5 import SafeGroup
from hw_targets.ir.network import Pair, Shape
from hw_targets.targets.loihi.netx.weights import Integers
from hw_targets.targets.loihi.neuron import CubaLIF

#: Lava keeps kernel size, stride, padding, dilation and groups in int8 (lava-nc 0.10.0 `proc/conv/models.py`), biases
#: in int16 (`proc/lif/models.py`).
INT8, INT16 = (1 << 7) - 1, (1 << 15) - 1
#: Above every threshold that occurs: slayer's readouts have 2^18 − 1.
MAX_THRESHOLD = (1 << 18) - 1
#: A Loihi 2 chip has about a million neurons; sixteen chips' worth.
MAX_NEURONS = 1 << 24
SPIKING = ("CUBA", "LOIHI")
NEURON_KEYS = {"type", "iDecay", "vDecay", "vThMant", "refDelay", "gradedSpike"}


@dataclass(frozen=True)
class Fields:
    """A layer's group. `lossy` accepts what the loader would drop or change."""

    group: SafeGroup
    lossy: bool

    def has(self, key: str) -> bool:
        """Whether the layer has an entry."""
        return self.group.holds(key)

    def integers(self, key: str) -> Integers:
        """An array of whole numbers.

        Raises:
            InvalidFile: no such entry, no numbers, or numbers beyond 32 bits.
            UnsupportedModel: fractions, which the loader would cut off, unless `lossy`.
        """
        values = self.group.numbers(key)
        if values.size and (float(values.max()) > 1 << 31 or float(values.min()) < -(1 << 31)):
            raise InvalidFile(f"{self.group.where(key)} spans {values.min()} … {values.max()}, beyond 32 bits")
        # What is stored in a byte or two, as weights mostly are, takes half the memory.
        small = values.dtype.kind in "iub" and values.dtype.itemsize <= 2
        whole: Integers = values.astype(np.int32 if small else np.int64)
        if values.dtype.kind == "f":
            fractions = int((whole != values).sum())
            self.drops(
                fractions > 0,
                f"{self.group.where(key)}: {fractions} of {values.size} values have fractions, which the loader would"
                " cut off; round them when the file is written",
            )
        return whole

    def drops(self, condition: bool, message: str) -> None:
        """Refuse what the loader would drop, unless the caller wants what remains."""
        if condition and not self.lossy:
            raise UnsupportedModel(f"{message} (or read it as the loader would: lossy=True)")

    def number(self, key: str, low: int, high: int) -> int:
        """One whole number within bounds."""
        values = self.integers(key)
        if values.size != 1:
            raise InvalidFile(f"{self.group.where(key)} has shape {values.shape}, expected one number")
        value = int(values.reshape(-1)[0])
        if not low <= value <= high:
            raise InvalidFile(f"{self.group.where(key)} is {value}, expected {low} … {high}")
        return value

    def pair(self, key: str, low: int) -> Pair:
        """One whole number for both axes, or one for each of (height, width)."""
        values = self.integers(key).reshape(-1)
        if values.size not in (1, 2) or not low <= int(values.min()) <= int(values.max()) <= INT8:
            raise InvalidFile(
                f"{self.group.where(key)} is {values.tolist()[:4]}, expected one or two of {low} … {INT8}"
            )
        return int(values[0]), int(values[-1])

    def shape(self) -> Shape:
        """The layer's own shape, (C, H, W) or (F,)."""
        values = self.integers("shape").reshape(-1)
        if values.size not in (1, 3) or int(values.min()) < 1:
            raise InvalidFile(
                f"{self.group.where('shape')} is {values.tolist()[:6]}, expected (neurons) or (channels, height, width)"
            )
        shape = tuple(int(v) for v in values)
        if np.prod([float(v) for v in shape]) > MAX_NEURONS:
            raise InvalidFile(f"{self.group.where('shape')} is {shape}, more than {MAX_NEURONS:,} neurons")
        return shape

    def agrees(self, key: str, value: int) -> None:
        """Refuse an entry that contradicts the weights; the loader never looks at it."""
        if self.has(key) and (stated := self.number(key, 0, 1 << 31)) != value:
            raise InvalidFile(f"{self.group.where(key)} says {stated}, but the weights have {value}")

    def only(self, known: set[str]) -> None:
        """Refuse entries that the loader ignores."""
        unknown = sorted(set(self.group.keys()) - known)
        self.drops(bool(unknown), f"{self.group.where()} has {unknown[:5]}, which the loader ignores; remove them")

    def neuron(self) -> CubaLIF:
        """The layer's neurons.

        Raises:
            UnsupportedModel: anything but CUBA (current-based leaky integrate-and-fire), and parameters of it that the
                loader ignores.
        """
        fields = Fields(self.group.subgroup("neuron"), self.lossy)
        kind = fields.group.text("type")
        if kind not in SPIKING:
            raise UnsupportedModel(
                f"{fields.group.where('type')} is {kind[:20]!r}; read are {' and '.join(SPIKING)}, current-based leaky"
                " integrate-and-fire neurons: train with slayer's cuba blocks"
            )
        if fields.has("messageBits"):
            raise UnsupportedModel(f"{fields.group.where('messageBits')}: the loader fails on it; send binary spikes")
        fields.only(NEURON_KEYS)
        if fields.has("refDelay"):
            steps = fields.integers("refDelay")
            fields.drops(
                bool((steps > 1).any()),
                f"{fields.group.where('refDelay')} is {steps.reshape(-1)[:3].tolist()}, the loader knows no refractory"
                " period; train with 1",
            )
        if fields.has("gradedSpike"):
            fields.drops(
                bool(fields.integers("gradedSpike").any()),
                f"{fields.group.where('gradedSpike')}: the loader sends binary spikes; train without graded ones",
            )
        return CubaLIF(
            fields.number("vThMant", 0, MAX_THRESHOLD),
            v_decay=fields.number("vDecay", 0, 4096),
            i_decay=fields.number("iDecay", 0, 4096),
        )
