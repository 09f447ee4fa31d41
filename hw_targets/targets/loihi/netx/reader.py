"""Reading Lava netx (.net) files, of this package or of lava-dl, as a `ChipNetwork`.

The file means what lava-dl 0.6.0's `netx.hdf5.Network` makes of it, weight formats and delays included. Whatever that
loader refuses, skips or changes is refused here by name; `lossy=True` reads what it only changes as it would.
"""

from __future__ import annotations

import os
from math import prod

from hw_targets.errors import InvalidFile
from hw_targets.files.hdf5 import SafeGroup, open_safely
from hw_targets.ir.network import ChipNetwork, GradedInput, Shape, SpikeInput
from hw_targets.targets.loihi.netx.building import Builder
from hw_targets.targets.loihi.netx.fields import MAX_NEURONS
from hw_targets.targets.loihi.target import LOIHI

MAX_STEPS, MAX_MESSAGE_BITS = 1 << 20, 24
#: Numbers that may be asked for: 256 GiB.
MAX_READ = 1 << 36


def read_netx(
    path: str | os.PathLike[str],
    *,
    time_steps: int | None = None,
    input_message_bits: int | None = None,
    lossy: bool = False,
    max_numbers: int | None = None,
    input_shape: Shape | None = None,
    num_layers: int | None = None,
) -> ChipNetwork:
    """Read a netx file.

    Args:
        path: the .net file.
        time_steps: T, steps a sample lasts; by default the file's attribute of that name. Where neither says it,
            `emulate` takes it from inputs (T, N, C, H, W) alone.
        input_message_bits: bits of a graded input, 0 for spikes; by default the file's attribute, or 0.
        lossy: also read what the loader accepts but changes, as it does: it cuts off fractions, clips weights, clamps
            delays, and ignores refractory periods, delays of convolutions and entries it does not know.
        max_numbers: how many numbers, 4 bytes each, the file may hold in all; those stored in 4 or 8 bytes count four
            times. A compressed file can declare a thousand times its own length; by default 2^25 are read, or 64 for
            each of its bytes, up to 2^29.
        input_shape: (C, H, W) or (F,) of the input, of a file that begins without an input block. (lava-dl's argument
            of that name is (W, H, C).)
        num_layers: how many of the file's `layer` groups, from 0, are read, as lava-dl's argument of that name; by
            default all. The network ends there.

    Returns:
        Populations `input`, `conv1`, `dense3` …, numbered as in the file. A last layer that never fires, as
        `export_netx` writes readouts, is an `Accumulator`.

    Raises:
        InvalidFile: no such file, no HDF5, or damaged, contradictory or unsafe content; the message names the entry.
        UnsupportedModel: layers, neurons or entries that the loader refuses, skips or changes.
        QuantizationError: weights that the loader cannot put into 8 bits.
    """
    whole = isinstance(max_numbers, int) and not isinstance(max_numbers, bool)
    if max_numbers is not None and not (whole and 1 <= max_numbers <= MAX_READ):
        raise InvalidFile(f"read_netx: max_numbers is {max_numbers!r}, expected 1 … {MAX_READ:,}, or None")
    with open_safely(path, max_numbers) as root:
        steps = _setting(root, "time_steps", time_steps, 1, (1, MAX_STEPS))
        steps_assumed = time_steps is None and root.attribute("time_steps") is None
        bits = _setting(root, "input_message_bits", input_message_bits, 0, (0, MAX_MESSAGE_BITS))
        layers = _layers(root.subgroup("layer"), num_layers)
        builder = Builder(GradedInput(bits, float((1 << bits) - 1)) if bits else SpikeInput(), lossy)
        if input_shape is not None:
            builder.begin(_input_shape(input_shape), layers[0])
        for index, group in enumerate(layers):
            builder.add(index, group, last=index == len(layers) - 1)
        builder.finish(str(path))
    names = [p.name for p in builder.populations]
    return ChipNetwork(
        tuple(builder.populations),
        tuple(builder.synapses),
        time_steps=steps,
        scales=dict.fromkeys(names, 1.0),
        steps_assumed=steps_assumed,
        file_format="netx",
        readout_dynamics=LOIHI.dynamics,
    )


def _setting(root: SafeGroup, key: str, given: int | None, default: int, bounds: tuple[int, int]) -> int:
    stored = root.attribute(key) if given is None else given
    value = default if stored is None else stored
    if not bounds[0] <= value <= bounds[1]:
        raise InvalidFile(f"{root.where()} {key} is {value}, expected {bounds[0]} … {bounds[1]}")
    return value


def _input_shape(shape: Shape) -> Shape:
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape)
    if not whole or len(shape) not in (1, 3) or prod(shape) > MAX_NEURONS:
        raise InvalidFile(
            f"read_netx: input_shape is {tuple(shape)!r}, expected (channels, height, width) or (values,), at most"
            f" {MAX_NEURONS:,} in all"
        )
    return tuple(shape)


def _layers(group: SafeGroup, wanted: int | None) -> list[SafeGroup]:
    keys = group.keys()
    expected = {str(i) for i in range(len(keys))}
    if not keys or set(keys) != expected:
        odd = sorted(set(keys) ^ expected)[:4]
        raise InvalidFile(f"{group.where()} must hold layers 0 … n − 1 without gaps, but {odd or 'all'} do not fit")
    count = len(keys) if wanted is None else wanted
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= len(keys):
        raise InvalidFile(f"read_netx: num_layers is {wanted!r}, but {group.where()} holds {len(keys)}; give 1 … that")
    return [group.subgroup(str(i)) for i in range(count)]
