"""A Xylo core's integers in files, under the names of rockpool's specifications: JSON, or NumPy arrays (.npz).

Where SynSense's samna is installed, the chip's configuration is one line of rockpool's, which was not run here:

    config, valid, message = config_from_specification(**read_xylo("model.json").with_states(2).as_arguments())

with `config_from_specification` of `rockpool.devices.xylo.syns61201` (Audio 2) or its like for Audio 3; Xylo IMU has
one synaptic state, and needs no `with_states`. Both packages are SynSense's; neither is needed to write the file.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hw_targets.errors import InvalidFile, InvalidNetwork, check_type
from hw_targets.files.atomic import new_file
from hw_targets.ir.network import ChipNetwork
from hw_targets.targets.xylo.layout import specification
from hw_targets.targets.xylo.specification import HIDDEN, OUTPUT, SHIFTS, WEIGHTS, Specification

#: What a file says it is.
FORMAT = "neuroprune xylo specification 1"
#: Larger files are not read: a full Audio 2, both currents, takes 6 MB as JSON.
LARGEST_FILE = 1 << 26
#: A day in the past, so that equal networks make equal bytes.
DATE = (1980, 1, 1, 0, 0, 0)


def export_xylo(
    network: ChipNetwork, path: str | os.PathLike[str], *, overwrite: bool = False, file_format: str | None = None
) -> None:
    """Write a network's integers as "json" or "npz" (`file_format`), None: as `path` ends. Equal networks, equal bytes.

    Raises:
        InvalidNetwork: a network that is not Xylo's.
        InvalidFile: another ending, a file that exists and `overwrite` is false, or a folder that cannot be written.
    """
    check_type("export_xylo", network, ChipNetwork, "the network that quantize gives for a Xylo chip")
    write_specification(specification(network), path, overwrite=overwrite, file_format=file_format)


def write_specification(
    spec: Specification, path: str | os.PathLike[str], *, overwrite: bool = False, file_format: str | None = None
) -> None:
    """As `export_xylo`."""
    ending = Path(path).suffix if file_format is None else f".{file_format}"
    if ending not in (".json", ".npz"):
        raise InvalidFile(f"{path} ends in {ending!r}; Xylo's specifications are written as .json or .npz")
    arguments = spec.as_arguments()
    with new_file(path, overwrite=overwrite) as temporary:
        if ending == ".json":
            plain = {name: np.asarray(v).tolist() if name != "aliases" else v for name, v in arguments.items()}
            temporary.write_text(json.dumps({"format": FORMAT, **plain}, separators=(",", ":")) + "\n")
            return
        flat = {"alias_sources": [n for n, found in enumerate(spec.aliases) for _ in found]}
        flat["alias_targets"] = [target for found in spec.aliases for target in found]
        arrays = {name: value for name, value in arguments.items() if name != "aliases"}
        with zipfile.ZipFile(temporary, "w") as archive:
            archive.comment = FORMAT.encode()
            for name, value in {**arrays, **flat}.items():
                member = zipfile.ZipInfo(f"{name}.npy", date_time=DATE)
                member.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(member, "w") as stream:
                    np.save(stream, np.asarray(value, np.int32), allow_pickle=False)


def read_xylo(path: str | os.PathLike[str]) -> Specification:
    """Read what `export_xylo` wrote.

    Raises:
        InvalidFile: a file that is missing, too large, no such specification, or holds what the chip does not.
    """
    try:
        if Path(path).stat().st_size > LARGEST_FILE:
            raise InvalidFile(f"{path} has {Path(path).stat().st_size} bytes, more than any specification takes")
        values = _read_arrays(path) if Path(path).suffix == ".npz" else _read_json(path)
        return _specification(values)
    except (OSError, ValueError, EOFError, KeyError, TypeError, OverflowError, zipfile.BadZipFile) as error:
        if isinstance(error, InvalidFile):
            raise
        hint = "" if isinstance(error, InvalidNetwork) else "; pass a file that export_xylo wrote"
        raise InvalidFile(f"{path} cannot be read as a Xylo specification: {error}{hint}") from error


def _read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
        raise ValueError(f"it does not say that it is a {FORMAT!r}")
    return found


def _read_arrays(path: str | os.PathLike[str]) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        if archive.comment.decode(errors="replace") != FORMAT:
            raise ValueError(f"it does not say that it is a {FORMAT!r}")
        if sum(member.file_size for member in archive.infolist()) > LARGEST_FILE:
            raise ValueError("its arrays are larger than any specification's")
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    aliases: list[list[int]] = [[] for _ in range(len(found["threshold"]))]
    for source, target in zip(found.pop("alias_sources"), found.pop("alias_targets"), strict=True):
        aliases[int(source)].append(int(target))
    return {**found, "aliases": aliases}


def _specification(values: dict[str, Any]) -> Specification:
    known = {*WEIGHTS, *HIDDEN, *OUTPUT, *SHIFTS, "aliases"}
    if unknown := set(values) - known:
        raise ValueError(f"it holds {sorted(unknown)}, which are no parts of one")
    if missing := known - set(values) - {"dash_syn_2"}:
        raise ValueError(f"it lacks {sorted(missing)}")
    arrays = {name: _integers(values[name], name) for name in (*WEIGHTS, *HIDDEN, *OUTPUT) if name in values}
    for name in WEIGHTS[:2]:
        arrays[name] = arrays[name][:, :, None] if arrays[name].ndim == 2 else arrays[name]
    arrays.setdefault("dash_syn_2", np.zeros_like(arrays["dash_syn"]))
    parts: dict[str, Any] = {**arrays, **{name: int(_integers(values[name], name)) for name in SHIFTS}}
    aliases = tuple(tuple(int(target) for target in targets) for targets in values["aliases"])
    return Specification(**parts, aliases=aliases if any(aliases) else ())


def _integers(value: Any, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    found = np.asarray(value)
    if found.size and found.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {found.dtype}, expected integers")
    return found.astype(np.int64)
