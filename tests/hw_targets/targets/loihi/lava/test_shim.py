"""What a check leaves out of Lava: its training half, and searches whose answer is known."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hw_targets.targets.loihi.lava.shim import TRAINING, once_per_class, without_training

#: For each process class of a network of netx: the models found by Lava's own search, everything imported, and by ours.
COMPARE = """
import json
from hw_targets.targets.loihi.lava.shim import lava_importable
with lava_importable():
    import lava.lib.dl.netx
    from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
    from lava.lib.dl.netx.blocks import process as blocks
    from lava.proc.io import sink, source
    from lava.proc import lif, dense, conv, monitor
    import lava.proc.lif.process, lava.proc.dense.process, lava.proc.conv.process, lava.proc.monitor.process
    import lava.proc.sparse.process
full = ProcGroupDiGraphs._find_proc_models
from hw_targets.targets.loihi.lava import runner
runner._import_lava()
classes = [lava.lib.dl.netx.hdf5.Network, blocks.Input, blocks.Dense, blocks.Conv, sink.RingBuffer, source.RingBuffer,
           lif.process.LIF, lif.process.LIFReset, dense.process.Dense, conv.process.Conv, monitor.process.Monitor,
           lava.proc.sparse.process.Sparse]
def names(search, cls):
    return [model.__qualname__ for model in search(cls.__new__(cls))]
print(json.dumps([[names(full, c), names(ProcGroupDiGraphs._find_proc_models, c)] for c in classes]))
"""


@pytest.mark.lava
@pytest.mark.slow
def test_our_search_finds_what_lavas_does() -> None:
    pytest.importorskip("lava.magma", reason="lava-nc is not installed")
    run = subprocess.run([sys.executable, "-c", COMPARE], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout.splitlines()[-1])
    assert len(found) == 12
    for theirs, ours in found:
        assert theirs == ours
        assert theirs


def test_a_class_is_searched_once_and_nobody_changes_the_answer() -> None:
    asked: list[object] = []

    def find(proc: object) -> list[object]:
        asked.append(proc)
        return [type(proc).__name__]

    search = once_per_class(find, {float: ["known"]})
    search(proc=1).append("another")
    assert [search(2), search("a"), search(0.5), search(True)] == [["int"], ["str"], ["known"], ["bool"]]
    assert asked == [1, "a", True]


def test_what_stands_in_for_the_training_half_does_not_stay() -> None:
    from importlib import import_module

    with without_training():
        assert import_module("lava.lib.dl.slayer.neuron.rf").neuron_params is None
    assert not TRAINING.keys() & sys.modules.keys()
    with pytest.raises(KeyError), without_training():
        raise KeyError
    assert not TRAINING.keys() & sys.modules.keys()
