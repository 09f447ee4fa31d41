"""Words of memory of a chip that keeps one layer per core: whole channels save them in powers of two, zeros do not.

Kernel c·2^(⌈log2 k²⌉ + ⌈log2 f⌉), neurons f·2^(⌈log2 h⌉ + ⌈log2 w⌉) for c input and f output channels, kernels of k×k
and an output of h×w (sinabs 904eb89, documentation of DYNAP-CNN). A dense layer is a convolution over its source.
"""

from __future__ import annotations

from collections.abc import Iterator

from hw_targets.chips.chip import Chip
from hw_targets.ir.network import Graph
from hw_targets.ir.ops import taps


def log2_up(value: int) -> int:
    """⌈log2 value⌉."""
    return (value - 1).bit_length()


def grid_of(network: Graph, name: str) -> tuple[int, int, int]:
    """(f, h, w) of a population; neurons of a dense layer are channels."""
    shape = network[name].shape
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (network[name].size, 1, 1)


def kernel_words(network: Graph, name: str, features: int) -> int:
    """Kernel words of a population if it had so many channels."""
    sizes = (taps(group.op, network[group.source].shape) for group in network.incoming(name))
    return sum(channels << (log2_up(each) + log2_up(features)) for channels, each in sizes)


def channels_that_save(network: Graph, chip: Chip) -> Iterator[str]:
    """A sentence for each layer with fewer channels than its kernels' memory is paid for; none for other chips.

    Outputs are as many as they are.
    """
    if chip.kernel_words_per_core is None:
        return
    for population in network.populations:
        features = grid_of(network, population.name)[0]
        paid = 1 << log2_up(features)
        if population.is_input or population in network.outputs or paid == features:
            continue
        lower = paid // 2
        saved = kernel_words(network, population.name, features) - kernel_words(network, population.name, lower)
        yield (
            f"{population.name}: {features} outputs cost as {paid}; at {lower} you save {saved:,} words of kernel"
            " memory, where zeros save none (neuroprune.keep_channels)"
        )
