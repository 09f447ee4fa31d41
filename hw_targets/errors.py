"""Errors a user can act on. Each message says what is wrong, the measured value, the limit, and what to do."""

from __future__ import annotations

import os
from pathlib import Path

from neuroprune import _numbers


class HardwareTargetError(ValueError):
    """Base of every error this package raises about a user's model, chip or file."""


class UnsupportedModel(HardwareTargetError):
    """The model holds something the target cannot represent exactly."""


class InvalidNetwork(HardwareTargetError):
    """A network that contradicts itself: shapes, names, dtypes or non-finite weights."""


class InvalidChip(HardwareTargetError):
    """A chip description that does not exist or does not follow the schema."""


class DoesNotFit(HardwareTargetError):
    """A network that exceeds a limit of the chip, however it is cut."""


class QuantizationError(HardwareTargetError):
    """Weights, biases or thresholds the chip's integers cannot hold."""


class InvalidFile(HardwareTargetError):
    """A file that is missing, truncated, of another format, or in the way."""


def check_type(call: str, value: object, expected: type, hint: str) -> None:
    """Refuse an argument of another type.

    Raises:
        InvalidNetwork: it names the type given and what is expected instead.
    """
    if not isinstance(value, expected):
        raise InvalidNetwork(f"{call}: got a {type(value).__name__}, expected a {expected.__name__}: {hint}")


def check_whole(call: str, name: str, value: object) -> int:
    """An argument that is a number of things, at least 1.

    Raises:
        InvalidNetwork: it is none; the message names the argument and the value.
    """
    try:
        return _numbers.check_whole(call, name, value)
    except ValueError as error:
        raise InvalidNetwork(str(error)) from None


def check_path(value: object) -> Path:
    """The path of a file or a folder.

    Raises:
        InvalidFile: it is no path, and no text.
    """
    if isinstance(value, (str, os.PathLike)):
        return Path(value)
    raise InvalidFile(f"a path was expected, got a {type(value).__name__}; give the name of a file or a folder as text")
