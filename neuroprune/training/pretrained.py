"""A model as a folder: model.safetensors, and config.json, which says how to build what the weights go into."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuroprune._require import require
from neuroprune.training.factories import built
from neuroprune.training.toml import InvalidRecipe

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_pretrained(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    arguments: Mapping[str, Any] | None = None,
    factory: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model, pruned or not, as a folder that `from_pretrained` and `neuroprune deploy` build it from.

    Args:
        model: its state_dict is written; zeros stay zeros.
        folder: new, or with `overwrite` such a folder.
        arguments: what the factory is called with; JSON values.
        factory: "package.module:callable"; None: the model's class.

    Returns:
        The folder.

    Raises:
        InvalidRecipe: the folder exists, or the factory does not build such a model from these arguments: nothing is
            written then.
        OSError: the folder cannot be written to, or the disk is full; a model that was there is as it was.
        ImportError: safetensors is not installed.
    """
    save = require("safetensors.torch", "train").save
    target, name = Path(folder), factory or f"{type(model).__module__}:{type(model).__qualname__}"
    if target.exists() and not (overwrite and (target / CONFIG).is_file()):
        raise InvalidRecipe(f"{target} exists already; choose another folder, or overwrite=True where it holds a model")
    given = dict(arguments or {})
    config = {"factory": name, "arguments": given, "sparsity": _sparsity(model)}
    try:
        text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InvalidRecipe(
            f"{target}: arguments cannot be written as JSON ({error}); give numbers and text"
        ) from error
    state = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in model.state_dict().items()}
    with torch.random.fork_rng():  # what is built is only looked at
        _load(_build(target, name, json.loads(text)["arguments"]), state, target, name)
    target.mkdir(parents=True, exist_ok=True)
    _replaced({target / WEIGHTS: save(state), target / CONFIG: text.encode()})
    return target


def from_pretrained(folder: str | os.PathLike[str]) -> nn.Module:
    """The model of such a folder, in evaluation mode. Its factory is code, and is executed.

    Raises:
        InvalidRecipe: the folder holds no model, or weights of another one.
        ImportError: safetensors is not installed.
    """
    path = Path(folder)
    load = require("safetensors.torch", "train").load_file
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        factory, arguments = str(config["factory"]), dict(config["arguments"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRecipe(
            f"{path} holds no model: {CONFIG} cannot be read ({error}); write one with neuroprune.save_pretrained"
        ) from error
    model = _build(path, factory, arguments)
    try:
        state = load(str(path / WEIGHTS))
    except Exception as error:  # safetensors raises its own type
        raise InvalidRecipe(f"{path / WEIGHTS} cannot be read ({error}); write the folder anew") from error
    _load(model, state, path, factory)
    return model.eval()


def is_pretrained(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder that `save_pretrained` wrote."""
    return Path(path, CONFIG).is_file()


def _replaced(files: Mapping[Path, bytes]) -> None:
    """All are written beside their places before the first takes its own: what was there stays if the disk is full."""
    parts = {path: path.with_name(f"{path.name}.part") for path in files}
    try:
        for path, content in files.items():
            parts[path].write_bytes(content)
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _build(folder: Path, factory: str, arguments: Mapping[str, Any]) -> nn.Module:
    model = built(str(folder), "factory", factory, arguments)
    if not isinstance(model, nn.Module):
        raise InvalidRecipe(f"{folder}: factory {factory!r} gives a {type(model).__name__}, no torch module")
    return model


def _load(model: nn.Module, state: Mapping[str, torch.Tensor], folder: Path, factory: str) -> None:
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:  # torch lists keys and shapes, one a line
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise InvalidRecipe(
            f"{folder}: {factory} with these arguments is another model than the weights are of: {' '.join(lines)};"
            " give the arguments it was built with"
        ) from error


def _sparsity(model: nn.Module) -> float:
    """Fraction of zeros among the weights of two or more dimensions."""
    weights = [p for p in model.parameters() if p.dim() >= 2]
    total = sum(p.numel() for p in weights)
    return 1 - sum(int(torch.count_nonzero(p)) for p in weights) / total if total else 0.0
