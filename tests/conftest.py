"""Shared fixtures: fixed seeds, one thread, and Lava made importable on Python 3.11."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
