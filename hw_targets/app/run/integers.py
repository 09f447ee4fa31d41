"""The integers that a command found, kept in the run folder for the next: integers/CHIP[-FORMAT].safetensors.

To find them takes far longer than to read them. They are tied by a hash to all that they follow from, and found anew
where any of it is another; so are those that hashes.json does not know. A file that was changed since is refused with
the folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

import hw_targets
from hw_targets.app.run import hashes
from hw_targets.chips.chip import Chip
from hw_targets.files.atomic import make_folder
from hw_targets.ir.network import Array, ChipNetwork, Graph, Network, Neuron, Op, Population, Synapses
from hw_targets.targets.registry import TARGETS
from neuroprune._require import require

FOLDER = "integers"


def path_of(folder: Path, chip: str, for_format: str | None) -> Path:
    """Where a run's integers are kept."""
    name = chip if for_format is None else f"{chip}-{for_format}"
    return folder / FOLDER / f"{re.sub(r'[^A-Za-z0-9.-]', '_', name)[:100]}.safetensors"


def tie(
    network: Network, chip: Chip, calibration: Array, scales: Mapping[str, float] | None, for_format: str | None
) -> str:
    """SHA-256 of all that integers follow from: what `to_chip` is given, and the source that computes them.

    Args:
        network: real weights, which follow from model and recipe.
        chip: its facts, not the name alone.
        calibration: the samples themselves.
        scales: on which the model was fine-tuned.
        for_format: as for `quantize`.
    """
    arrays: dict[str, Array] = {"calibration": calibration}
    facts = {f.name: getattr(chip, f.name) for f in fields(chip) if f.name not in ("target", "sources", "description")}
    family = None if chip.target is None else chip.target.name
    given = [_plain(network, arrays), _plain(facts, arrays), family, _plain(scales, arrays), for_format, _source()]
    digest = hashlib.sha256(json.dumps(given).encode())
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def kept(folder: Path, path: Path, tied: str) -> ChipNetwork | None:
    """The integers in a file of a run; None if it was not written by this run, or for anything else than `tied`.

    Raises:
        InvalidFile: hashes.json is broken.
    """
    known = hashes.recorded(folder)
    if known is None or path.relative_to(folder).as_posix() not in known or not path.is_file():
        return None
    try:
        with require("safetensors", "train").safe_open(str(path), "np") as file:
            found = json.loads(file.metadata()["network"])
            if found["tie"] != tied:
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        return _network(found, arrays)
    except Exception:  # safetensors raises its own type; whatever is wrong with the file, another is made
        return None


def keep(folder: Path, path: Path, network: ChipNetwork, tied: str, made_of: hashes.Sources | None = None) -> None:
    """Write integers down, as a result of the run; in a folder without hashes.json nothing is kept.

    Raises:
        InvalidFile: as `hashes.new_result`, to which `made_of` is given.
    """
    if hashes.recorded(folder) is None:
        return
    make_folder(path.parent)
    arrays: dict[str, Array] = {}
    content = _plain(replace(network, readout_dynamics=None), arrays)
    dynamics, readouts = network.dynamics, network.readout_dynamics
    names = (None if dynamics is None else dynamics.name, None if readouts is None else readouts.name)
    # One entry alone: of several safetensors does not keep the order, and a file's hash would be another each time.
    note = {"network": json.dumps({"tie": tied, "dynamics": names, "network": content})}
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with hashes.new_result(folder, path, overwrite=True, made_of=made_of) as temporary:
        temporary.write_bytes(require("safetensors.numpy", "train").save(whole, note))


def _network(found: Mapping[str, Any], arrays: Mapping[str, Array]) -> ChipNetwork:
    # A family's neurons are known when it has been asked for its dynamics.
    _, readouts = (None if name is None else TARGETS[name].dynamics for name in found["dynamics"])
    kinds: list[type] = [ChipNetwork, Population, Synapses, *get_args(Op), *_kinds(Neuron)]
    network = _value(found["network"], arrays, {kind.__name__: kind for kind in kinds})
    if not isinstance(network, ChipNetwork):
        raise TypeError(f"a {type(network).__name__} is no network")
    return replace(network, readout_dynamics=readouts)


def _kinds(of: type[Any]) -> Iterator[type]:
    for kind in of.__subclasses__():
        yield kind
        yield from _kinds(kind)


def _plain(value: Any, arrays: dict[str, Array]) -> Any:
    """A value of the network's as JSON holds it; `arrays` gets the arrays, each once."""
    if isinstance(value, np.ndarray):
        name = next((name for name, array in arrays.items() if array is value), str(len(arrays)))
        arrays[name] = value
        return {"array": name}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, tuple):
        return [_plain(one, arrays) for one in value]
    if isinstance(value, Mapping):
        return {"mapping": [[key, _plain(one, arrays)] for key, one in value.items()]}
    if isinstance(value, (Graph, Population, Synapses, Neuron, *get_args(Op))) and is_dataclass(value):
        return {
            "is": type(value).__name__,
            "with": [[f.name, _plain(getattr(value, f.name), arrays)] for f in fields(value)],
        }
    raise TypeError(f"a {type(value).__name__} is no part of a network that is written down")


def _value(plain: Any, arrays: Mapping[str, Array], kinds: Mapping[str, type]) -> Any:
    """What `_plain` wrote down."""
    if isinstance(plain, list):
        return tuple(_value(one, arrays, kinds) for one in plain)
    if not isinstance(plain, dict):
        return plain
    if "array" in plain:
        return arrays[plain["array"]]
    if "mapping" in plain:
        return {key: _value(one, arrays, kinds) for key, one in plain["mapping"]}
    return kinds[plain["is"]](**{key: _value(one, arrays, kinds) for key, one in plain["with"]})


def _source() -> str:
    """SHA-256 of this package's source: other code may find other integers."""
    digest = hashlib.sha256()
    for path in sorted(Path(hw_targets.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
