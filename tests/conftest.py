"""Shared fixtures: fixed seeds, one thread, one process of Lava; and which of two processes runs which test.

The process that hands the tests out loads this file, too: what takes long to import is imported where it is used.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.builders.lava import LavaProcess

# For numpy, and for the processes that tests start; threads that wait for each other take CPU, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    import torch

    # `torch.manual_seed` notes down, in 0.8 ms, who seeded a GPU that there may never be.
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(0)
    torch.set_num_threads(1)
    if (snntorch := sys.modules.get("snntorch")) is not None:
        # It keeps every neuron that was ever made, and its `reset` resets them all, those of other tests too.
        snntorch.SpikingNeuron.init()


@pytest.fixture(scope="session", autouse=True)
def _images_are_unpacked_once() -> Iterator[None]:
    """Every run reads Fashion-MNIST, which takes 0.4 s of CPU; where it is installed it does not change."""
    from neuroprune.training.data import fashion_mnist

    read, installed = fashion_mnist._read, fashion_mnist.DEBIAN_FOLDER
    once = cache(read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            fashion_mnist, "_read", lambda folder, name: (once if folder == installed else read)(folder, name)
        )
        yield


@pytest.fixture(scope="module")
def products_in_bytes() -> Iterator[None]:
    """Small networks, too, are emulated the way large ones are: for modules that are about it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hw_targets.emulation.products.FEWEST", 1)
        yield


@pytest.fixture(scope="session")
def lava(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LavaProcess]:
    """Lava's simulator; started when it is first needed."""
    from tests.builders.lava import LavaProcess

    process = LavaProcess(tmp_path_factory.mktemp("lava") / "errors.txt")
    yield process
    process.close()


def pytest_collection_finish() -> None:
    """What the imports left is never garbage: collecting it again and again takes seconds."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests run in one process, so that its fixtures are made once; so do all files that start Lava."""
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = lambda nodeid: _scope(config.rootpath / nodeid.partition("::")[0])
    return scheduler


@cache
def _scope(file: Path) -> str:
    return "Lava" if "mark.lava" in file.read_text(encoding="utf-8") else str(file)
