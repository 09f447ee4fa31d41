"""Files as strangers may send them: what changes them takes little memory itself."""

from __future__ import annotations

from pathlib import Path
from random import Random

import h5py
import pytest

from examples.benchmarks.strangers import hdf5


@pytest.mark.parametrize("change", [hdf5._number, hdf5._shape, hdf5._type], ids=lambda change: change.__name__)
def test_what_is_declared_large_is_not_read_to_be_changed(
    change: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(1 << 24,), dtype="i1", chunks=True)
    monkeypatch.setattr(hdf5, "CHANGES", (change,))
    for seed in range(5):
        hdf5.changed_hdf5(path, Random(seed))
        assert path.stat().st_size < 1 << 20
