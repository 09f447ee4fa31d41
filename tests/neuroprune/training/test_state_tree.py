"""A run's state is taken apart into JSON and tensors, and put together the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from neuroprune.training.state_tree import Unsaveable, packed, unpacked

TENSORS = st.sampled_from(
    [torch.arange(6).view(2, 3).T, torch.zeros(0), torch.tensor(1.5), torch.tensor([True]), torch.ones(2).bfloat16()]
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), TENSORS)
KEYS = st.one_of(st.text(), st.integers(), st.sampled_from(["tensor", "dict", "list", "a.b", "a", "b"]))
STATES = st.recursive(
    LEAVES, lambda s: st.lists(s, max_size=3) | st.tuples(s, s) | st.dictionaries(KEYS, s, max_size=4), max_leaves=15
)


def spelled(state: Any) -> Any:
    """A state with the types and bits of all there is in it."""
    if isinstance(state, Tensor):
        return (str(state.dtype), tuple(state.shape), state.tolist())
    if isinstance(state, dict):
        return [(type(key), key, spelled(value)) for key, value in state.items()]
    if isinstance(state, (list, tuple)):
        return type(state), [spelled(item) for item in state]
    return type(state), repr(state)


@given(STATES)
def test_any_state_comes_back_through_json_and_safetensors(state: Any) -> None:
    tree, tensors = packed(state)
    found = unpacked(json.loads(json.dumps(tree)), load(save(tensors)))
    assert spelled(found) == spelled(state)


def test_what_is_packed_is_a_copy() -> None:
    weight = torch.zeros(3)
    tree, tensors = packed({"a": weight, "tied": weight})
    weight += 1
    assert unpacked(tree, tensors)["tied"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"model": {"extra": {1, 2}}}, "model.extra is a set"),
        ({"a": [0, object()]}, "a.1 is a object"),
        ({(1, 2): 3}, "it is a dict"),
    ],
)
def test_what_cannot_be_saved_is_refused_by_its_place(state: Any, says: str) -> None:
    with pytest.raises(Unsaveable, match=says):
        packed(state)
