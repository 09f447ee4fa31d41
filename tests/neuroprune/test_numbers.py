"""What is taken for a number, and what is not."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from neuroprune._numbers import check_number, check_share, check_whole, number_of, plain

NONE: list[Any] = [None, True, "1", b"1", 1j, [1], object(), torch.tensor([1.0, 2.0]), np.ones(2), 10**400, 1 << 99_999]
NONE += [torch.tensor(True), np.bool_(True), torch.tensor(0.9 + 0j), np.complex64(1)]


@pytest.mark.parametrize("value", NONE, ids=lambda v: type(v).__name__)
def test_what_is_no_number_is_refused_in_one_line_by_all(value: Any) -> None:
    assert number_of(value) is None
    for check in (check_number, check_whole, check_share):
        with pytest.raises(ValueError, match=r"^here: x must .*, got .+$") as refused:
            check("here", "x", value)
        assert len(str(refused.value)) < 140


@pytest.mark.parametrize("one", [1, 1.0, np.float32(1), np.int64(1), torch.tensor(1), torch.tensor([1.0]), Fraction(1)])
def test_what_is_a_number_is_taken(one: Any) -> None:
    assert check_number("here", "x", one) == check_whole("here", "x", one) == check_share("here", "x", one) == 1
    assert type(check_whole("here", "x", one)) is int


def test_long_whole_numbers_keep_every_digit() -> None:
    assert check_whole("here", "x", 2**60 + 1) == 2**60 + 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.5, 0])
def test_bounds(value: float) -> None:
    with pytest.raises(ValueError, match=f"here: x must be a whole number >= 1, got {value}"):
        check_whole("here", "x", value)
    with pytest.raises(ValueError, match=f"list: x must be a finite number >= 2, got {value}"):
        check_number([], "x", value, 2)
    if not 0 < value <= 1:
        with pytest.raises(ValueError, match=f"here: x must lie in 0 … 1, 0 excluded, got {value}"):
            check_share("here", "x", value)


@pytest.mark.parametrize("value", [Decimal("0.5"), np.float32(0.5), torch.tensor(0.5), Fraction(1, 2)])
def test_a_number_that_something_holds_becomes_pythons_own(value: Any) -> None:
    assert plain(value) == 0.5
    assert type(plain(value)) is float
    assert type(plain(value * 20)) is int
    assert plain("0.5") == "0.5"
    assert plain(10**400) == 10**400


def test_what_no_float_tells_from_a_whole_number_is_one() -> None:
    almost = Decimal("19.99999999999999999999")
    assert plain(almost) == check_whole("here", "x", almost) == 20
    assert plain(np.int64(2**60 + 1)) == check_whole("here", "x", np.int64(2**60 + 1)) == 2**60 + 1
