"""Shared fixtures: fixed seeds, one thread, and Lava made importable on Python 3.11."""

from __future__ import annotations

import pytest
import torch

from hw_targets.emulation import products as emulate_products


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _products_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks, too, are emulated the way large ones are."""
    monkeypatch.setattr(emulate_products, "FEWEST", 1)
