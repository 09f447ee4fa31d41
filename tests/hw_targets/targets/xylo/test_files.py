"""Xylo's specifications in files: what is written is read, and nothing else."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.benchmarks.xylo_cores import random_core
from hw_targets import export_xylo, load_chip, quantize, read_xylo
from hw_targets.errors import InvalidFile, InvalidNetwork
from hw_targets.targets.xylo.files import write_specification
from hw_targets.targets.xylo.layout import specification
from hw_targets.targets.xylo.specification import Specification
from tests.builders.xylo import random_network

#: What rockpool's `config_from_specification` of Xylo Audio 2 takes.
ROCKPOOL = {
    *("weights_in", "weights_rec", "weights_out", "dash_mem", "dash_mem_out", "dash_syn", "dash_syn_2", "dash_syn_out"),
    *("threshold", "threshold_out", "bias_hidden", "bias_out", "weight_shift_in", "weight_shift_rec"),
    *("weight_shift_out", "aliases"),
}


def equal(a: Specification, b: Specification) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name != "aliases") and (
        a.aliases == b.aliases
    )


@pytest.mark.parametrize("ending", [".json", ".npz"])
@pytest.mark.parametrize("seed", range(6))
def test_a_core_comes_back(ending: str, seed: int, tmp_path: Path) -> None:
    spec = random_core(np.random.default_rng(seed), 12)
    path = tmp_path / f"core{ending}"
    write_specification(spec, path)
    first = path.read_bytes()
    found = read_xylo(path)
    assert equal(found.with_states(2), spec.with_states(2)) or spec.states == 1
    assert np.array_equal(found.weights_in, spec.weights_in)
    assert found.aliases == (spec.aliases if any(spec.aliases) else ())
    write_specification(spec, path, overwrite=True)
    assert path.read_bytes() == first, "equal networks, equal bytes"


def test_a_networks_file_has_rockpools_names(tmp_path: Path) -> None:
    network = quantize(random_network(np.random.default_rng(0), biases=False), load_chip("xylo-audio2"))
    export_xylo(network, tmp_path / "model.json")
    found = read_xylo(tmp_path / "model.json")
    assert equal(found, specification(network))
    assert set(found.with_states(2).as_arguments()) == ROCKPOOL
    assert set(found.as_arguments()) == ROCKPOOL - {"dash_syn_2"}
    assert found.with_states(2).as_arguments()["weights_in"].shape == (*found.weights_in.shape[:2], 2)
    with pytest.raises(InvalidFile, match="exists already"):
        export_xylo(network, tmp_path / "model.json")
    with pytest.raises(InvalidFile, match=r"ends in '.yaml'"):
        export_xylo(network, tmp_path / "model.yaml")
    with pytest.raises(InvalidNetwork, match="export_xylo: got a Specification"):
        export_xylo(found, tmp_path / "other.json")  # type: ignore[arg-type]


def broken(**changes: Any) -> str:
    spec = random_core(np.random.default_rng(0), 4)
    plain = {k: np.asarray(v).tolist() if k != "aliases" else v for k, v in spec.as_arguments().items()}
    changed = {"format": "neuroprune xylo specification 1", **plain, **changes}
    return json.dumps({key: value for key, value in changed.items() if value is not None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as a Xylo specification"),
        ("[]", "does not say that it is"),
        (broken(format="other"), "does not say that it is"),
        (broken(threshold=None), r"lacks \['threshold'\]"),
        (broken(extra=1), r"holds \['extra'\]"),
        (broken(weight_shift_in=1.5), "weight_shift_in holds float64, expected integers"),
        (broken(threshold=[0]), "threshold"),
        (broken(aliases=[[99]]), "aliases"),
        (broken(weights_out=[["a"]]), "weights_out holds"),
    ],
)
def test_broken_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(InvalidFile, match=message):
        read_xylo(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="No such file"):
        read_xylo(tmp_path / "nothing.json")
    np.savez(tmp_path / "other.npz", threshold=np.ones(3))
    with pytest.raises(InvalidFile, match="does not say that it is"):
        read_xylo(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InvalidFile, match="cannot be read"):
        read_xylo(tmp_path / "text.npz")
