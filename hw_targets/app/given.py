"""A model, weights and data that a user names on the command line, or hands over in Python."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from hw_targets.errors import InvalidFile
from neuroprune._require import require
from neuroprune.training.data.arrays import npz, split_of
from neuroprune.training.data.base import DataSet, Split
from neuroprune.training.data.fashion_mnist import fashion_mnist
from neuroprune.training.data.image_folder import FolderOptions, image_folder
from neuroprune.training.data.own import REQUIRED, own_data
from neuroprune.training.factories import built
from neuroprune.training.pretrained import from_pretrained, is_pretrained
from neuroprune.training.recipe import load_recipe
from neuroprune.training.toml import InvalidRecipe, value_of

#: What `deploy` takes as data: a `Split`, one data set, (samples, labels) as arrays or tensors, or the path of an .npz.
Data: TypeAlias = "Split[Any] | DataSet | tuple[Any, Any] | str | Path"
#: Keys under which checkpoints keep the state of their model.
STATES = ("state_dict", "model_state_dict", "model", "net")


def as_split(data: Data) -> tuple[Split[DataSet], bool]:
    """Data in any of its forms as a split, and whether it has samples of its own for calibration.

    Raises:
        InvalidFile: something else.
        DatasetNotFound: a file, or arrays, that are not as they must be.
    """
    if isinstance(data, Split):
        return data, True
    if isinstance(data, (str, Path)):
        found = npz(str(data))
        return Split[DataSet](found.train, found.validation, found.test), True
    if isinstance(data, (tuple, list)) and len(data) == 2:
        samples, labels = (v.detach().cpu().numpy() if isinstance(v, Tensor) else np.asarray(v) for v in data)
        halves = split_of("the arrays", [(samples, labels)])
        return Split[DataSet](halves.train, halves.validation, halves.test), True
    if all(hasattr(data, key) for key in REQUIRED):
        whole: Any = data
        return Split[DataSet](whole, whole, whole), False
    raise InvalidFile(
        f"deploy: data is a {type(data).__name__}; give (samples, labels), the path of an .npz file, a data set or a"
        " Split (neuroprune.training.data)"
    )


def model_of(factory: str, arguments: Mapping[str, Any], weights: Path | None) -> nn.Module:
    """What "package.module:callable" builds, or what `neuroprune.save_pretrained` wrote to a folder of that name.

    With the weights of a file, if there is one; in evaluation mode.

    Raises:
        InvalidRecipe: there is no such callable, it is part of Python itself, fails, or gives no module; arguments for
            a folder, which holds its own.
        InvalidFile: the weights cannot be read, or are those of another model.
    """
    if is_pretrained(factory):
        if arguments:
            raise InvalidRecipe(f"deploy: {factory} says itself what its model is built with; leave --model-arg out")
        model: Any = from_pretrained(factory)
    else:
        model = built("deploy", "the model", factory, arguments)
    if not isinstance(model, nn.Module):
        raise InvalidRecipe(f"deploy: the model {factory!r} gives a {type(model).__name__}, no torch module")
    if weights is not None:
        state = load_state(weights)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:  # torch lists keys and shapes, one a line
            lines = [line.strip() for line in str(error).splitlines()[1:3]]
            raise InvalidFile(f"{weights} does not hold the weights of {factory}: {' '.join(lines)}") from error
    return model.eval()


def load_state(path: Path) -> dict[str, Tensor]:
    """A state_dict from a .safetensors file, or from what `torch.save` wrote, without executing anything in it.

    Of a checkpoint with more in it, what it keeps under "state_dict", "model_state_dict", "model" or "net". A prefix
    "module." of all keys, which data-parallel training leaves, is taken off.

    Raises:
        InvalidFile: it cannot be read, or holds other objects than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = require("safetensors.torch", "train").load_file(str(path))
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidFile(
            f"{path} cannot be read as weights ({reason}); save model.state_dict() with torch.save or safetensors"
        ) from error
    except Exception as error:  # safetensors raises its own type
        raise InvalidFile(f"{path} cannot be read as weights ({error}); save it anew") from error
    for key in STATES:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InvalidFile(f"{path} holds no state_dict; save model.state_dict(), with torch.save or safetensors")
    whole = bool(found) and all(str(key).startswith("module.") for key in found)
    return {str(key).removeprefix("module.") if whole else str(key): value for key, value in found.items()}


def data_of(given: str, arguments: Mapping[str, Any]) -> Split[DataSet]:
    """The data that a command names.

    Args:
        given: an .npz file, a recipe (.toml), of which [data] is used, a folder of images (train/ and val/),
            "fashion-mnist", a data set of ours (`neuroprune.training.data.own.NAMED`), or "package.module:callable".
        arguments: of the last two, and of the arrays.

    Raises:
        DatasetNotFound: there is no such data.
        InvalidRecipe: a recipe or callable that is none.
    """
    if given.endswith(".toml"):
        from hw_targets.app.stages import load_data

        return load_data(load_recipe(given))
    if given.endswith(".npz"):
        return own_data("deploy", "arrays", {"path": given, **arguments})
    if given == "fashion-mnist":
        images = fashion_mnist()
        return Split[DataSet](images.train, images.validation, images.test)
    if Path(given).is_dir():
        found = image_folder(FolderOptions(given, normalize=False))
        return Split[DataSet](found.train, found.validation, found.test)
    return own_data("deploy", given, arguments)


def arguments_of(given: Sequence[str]) -> dict[str, Any]:
    """["key=value", …] as keyword arguments; values as in TOML, text also without quotes.

    Raises:
        InvalidRecipe: one that is not "key=value".
    """
    found: dict[str, Any] = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key.strip().isidentifier():
            raise InvalidRecipe(f"an argument must read key=value, as in classes=10, got {text!r}")
        found[key.strip()] = value_of(value)
    return found
