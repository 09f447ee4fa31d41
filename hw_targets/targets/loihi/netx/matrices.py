"""The matrices of a dense netx layer: its weights, its loop and its delays, as Lava loads them."""

from __future__ import annotations

import numpy as np

from hw_targets.errors import QuantizationError, UnsupportedModel
from hw_targets.ir.connectivity import edges
from hw_targets.ir.network import ChipNetwork, Population
from hw_targets.ir.transposed import LARGEST_MATRIX
from hw_targets.targets.loihi.netx.stacking import Integers, check_weights, offsets, zeros
from hw_targets.targets.loihi.netx.weights import stored_by_netx


def matrices(
    network: ChipNetwork, before: tuple[Population, ...], here: tuple[Population, ...]
) -> tuple[Integers, Integers | None, Integers | None]:
    """(weight, recurrent, delay) of a dense layer, as `NetxLayer` holds them.

    Raises:
        UnsupportedModel, QuantizationError: as `export_netx`.
    """
    names = ", ".join(p.name for p in here)
    weight = _weight(network, before, here, names)
    if not weight.any():
        raise QuantizationError(
            f"all {weight.size} weights of the dense layer {names} are zero, so nothing"
            " reaches the output (and lava-dl's loader cannot read such a layer); prune less, or put this layer into"
            " a parameter group with prune=False"
        )
    check_weights(weight, names)
    recurrent, delay = _loop_and_delay(network, before, here)
    _check_loaded(weight, recurrent, delay, names)
    return weight, recurrent, delay


def _weight(network: ChipNetwork, before: tuple[Population, ...], here: tuple[Population, ...], names: str) -> Integers:
    """(neurons, sources), a convolution written as its matrix."""
    rows, columns = offsets(here, whole=True), offsets(before, whole=True)
    incoming = [s for p in here for s in network.incoming(p.name) if not s.is_recurrent]
    size = (sum(p.size for p in here), sum(p.size for p in before))
    if (spatial := [s.target for s in incoming if s.op.is_spatial]) and size[0] * size[1] > LARGEST_MATRIX:
        raise UnsupportedModel(
            f"{', '.join(spatial)}: in netx a convolution beside a dense layer, or of a vector such as a transposed"
            f" convolution with a stride gives, is a matrix; {names} of {', '.join(p.name for p in before)} has"
            f" {size[0] * size[1]:,} numbers, more than {LARGEST_MATRIX:,}; use fewer channels or a smaller grid, or"
            " convolutions alone, transposed ones with a stride of 1"
        )
    weight = zeros(size, [s.op for s in incoming])
    for s in incoming:
        top, left = rows[s.target], columns[s.source]
        block = weight[top : top + network[s.target].size, left : left + network[s.source].size]
        if s.op.is_spatial:
            target, source, values = edges(s, network)
            block[target, source] += values.astype(weight.dtype)
        else:
            block += s.op.weight.astype(weight.dtype)
    return weight


def _loop_and_delay(
    network: ChipNetwork, before: tuple[Population, ...], here: tuple[Population, ...]
) -> tuple[Integers | None, Integers | None]:
    """The recurrent matrix and the delays of a dense layer; netx knows them for a layer of one population only."""
    incoming = [s for p in here for s in network.incoming(p.name)]
    loops, forward = ([s for s in incoming if s.is_recurrent is loop] for loop in (True, False))
    delays = [s.delay for s in incoming if s.delay is not None]
    if not loops and not delays:
        return None, None
    alike = all(np.array_equal(d, delays[0]) for d in delays) and len(delays) in (0, len(incoming))
    if len(here) > 1 or len(before) > 1 or len(forward) != 1 or len(loops) > 1 or not alike:
        raise UnsupportedModel(
            f"{', '.join(p.name for p in here)} share a netx layer with recurrent or delayed synapses"
            f" ({', '.join(s.name for s in incoming if s.is_recurrent or s.delay is not None)}); netx has these only"
            " where one population feeds one other, and the same delays for both matrices of a recurrent layer"
        )
    if loops and delays and before[0].size != here[0].size:
        raise UnsupportedModel(
            f"{here[0].name} is recurrent with delays: Lava's loader gives both matrices one array of delays, so it"
            f" needs as many inputs as neurons, got {before[0].size} and {here[0].size}; leave the delays out"
        )
    recurrent = loops[0].op.weight.astype(np.int32) if loops else None
    if recurrent is not None:
        check_weights(recurrent, here[0].name)
    return recurrent, delays[0].astype(np.int32) if delays else None


def _check_loaded(weight: Integers, recurrent: Integers | None, delay: Integers | None, names: str) -> None:
    """Refuse weights that Lava would run with other values (see `netx_weights`)."""
    if recurrent is None and int(weight.min()) < 0 < int(weight.max()):
        return  # both signs and within 8 bits: shifted left within them, nothing cut, and shifted back
    parts = [part.astype(np.int64) for part in (weight, recurrent) if part is not None]
    keeps_shift = recurrent is not None and delay is not None
    try:
        stored = stored_by_netx(*parts)
        loaded = [s.mantissa if keeps_shift else s.effective for s in stored]
    except QuantizationError as error:
        raise QuantizationError(f"the dense layer {names}: {error}") from error
    if any((mine != theirs).any() for mine, theirs in zip(parts, loaded, strict=True)):
        raise QuantizationError(
            f"Lava would run the weights of {names} with other values: it "
            + (
                f"counts those of a recurrent layer with delays {1 << stored[0].shift} times; leave the delays out"
                if keeps_shift
                else "clips weights of one sign at 255 after shifting them; keep these within ±127"
            )
        )
