"""Chip descriptions: the built-in ones hold what was published, and a wrong file is refused by the name of its key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hw_targets.chips.chip import Chip
from hw_targets.chips.facts import REQUIRED, UNITS
from hw_targets.errors import InvalidChip
from hw_targets.targets.registry import available_chips, load_chip

XYLOS = ("xylo-audio2", "xylo-audio3", "xylo-imu")
MINIMAL = """
name = "tiny"
[facts]
cores_per_chip = { value = 4, source = "a paper" }
neurons_per_core = { value = 8, source = "a paper" }
"""


def test_builtin_chips() -> None:
    assert available_chips() == ("dynapse2", "loihi1", "loihi2", "speck", "spinnaker2", "truenorth", *XYLOS)
    for name in available_chips():
        assert load_chip(name).name == name


def test_a_chip_keeps_its_former_name() -> None:
    assert load_chip("xylo") == load_chip("xylo-audio2")


@pytest.mark.parametrize("name", available_chips())
def test_every_number_has_a_unit_and_a_source(name: str) -> None:
    chip = load_chip(name)
    assert {fact.key for fact in chip.facts} | set(chip.unknown) == set(UNITS)
    for fact in chip.facts:
        assert fact.source.strip(), fact.key
        assert fact.unit == UNITS[fact.key]
        assert fact.value == getattr(chip, fact.key)


def test_loihi1_limits() -> None:
    chip = load_chip("loihi1")
    limits = (chip.neurons_per_core, chip.input_axons_per_core, chip.output_axons_per_core, chip.cores_per_chip)
    assert limits == (1024, 4096, 4096, 128)
    assert (chip.synaptic_bits_per_core, chip.word_bits) == (16383 * 64, 64)
    assert (chip.weight_bits, chip.index_bits, chip.entry_synapses, chip.entry_header_bits) == (8, 10, 60, 10)
    assert (chip.threshold_mantissa_bits, chip.bias_mantissa_bits, chip.decay_bits) == (17, 13, 12)
    assert (chip.state_bits, chip.max_delay) == (24, 62)
    assert (chip.synop_pj, chip.active_update_pj, chip.inactive_update_pj) == (23.6, 81, 52)
    assert (chip.spike_in_tile_pj, chip.hop_east_west_pj, chip.hop_north_south_pj) == (1.7, 3.0, 4.0)
    assert chip.knows_entry_format
    of_other_chips = {"core_memory_bits", "inputs_per_neuron", "synapses_out_per_neuron", "destinations_per_neuron",
                      "input_neurons", "output_neurons", "hidden_neurons", "synaptic_states_per_neuron",
                      "average_fan_out", "input_projection_neurons", "output_projection_neurons",
                      "kernel_words_per_core", "neuron_words_per_core"}  # fmt: skip
    assert set(chip.unknown) == of_other_chips


def test_loihi2_leaves_the_unpublished_absent() -> None:
    chip = load_chip("loihi2")
    assert (chip.cores_per_chip, chip.neurons_per_core, chip.weight_bits) == (128, 8192, 8)
    assert chip.synaptic_bits_per_core == 128 * 1024 * 8
    assert chip.input_axons_per_core is None
    assert chip.output_axons_per_core is None
    assert all(getattr(chip, key) is None for key in UNITS if key.endswith("_pj"))
    assert not chip.knows_entry_format


def test_loads_a_path(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(MINIMAL + 'synop_pj = { value = 2, source = "a paper" }\n', encoding="utf-8")
    chip = load_chip(path)
    assert (chip.name, chip.cores_per_chip, chip.synop_pj, chip.weight_bits) == ("tiny", 4, 2, None)
    assert load_chip(str(path)) == chip
    assert chip.sources["synop_pj"] == "a paper"


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(InvalidChip, match=r"unknown chip 'loihi9': known are dynapse2, loihi1, .*, xylo-imu; .*\.toml"):
        load_chip("loihi9")


@pytest.mark.parametrize("given", [None, 1, b"loihi1", ["loihi1"]])
def test_what_is_no_name_and_no_path(given: Any) -> None:
    with pytest.raises(InvalidChip, match=f"load_chip: got a {type(given).__name__}, expected a chip's name"):
        load_chip(given)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidChip, match=r"absent\.toml' cannot be read"):
        load_chip(tmp_path / "absent.toml")


BROKEN = {
    "facts.neurons_per_core is 0,": MINIMAL.replace("value = 8", "value = 0"),
    "facts.neurons_per_core is -3,": MINIMAL.replace("value = 8", "value = -3"),
    "facts.neurons_per_core is 8.5,": MINIMAL.replace("value = 8", "value = 8.5"),
    "facts.neurons_per_core is True,": MINIMAL.replace("value = 8", "value = true"),
    "facts.neurons_per_core is '8',": MINIMAL.replace("value = 8", 'value = "8"'),
    "facts.neurons_per_core: is 8;": MINIMAL.replace('{ value = 8, source = "a paper" }', "8"),
    "facts.neurons_per_core: source is ''": MINIMAL.replace('8, source = "a paper"', '8, source = ""'),
    "facts.neurons_per_core: required key source is missing": MINIMAL.replace('8, source = "a paper"', "8"),
    "facts.neurons_per_core: unknown key unit": MINIMAL.replace("value = 8", "unit = 1, value = 8"),
    "facts: unknown key neurons": MINIMAL + 'neurons = { value = 1, source = "x" }\n',
    "facts.synop_pj is nan,": MINIMAL + 'synop_pj = { value = nan, source = "x" }\n',
    "facts.synop_pj is inf,": MINIMAL + 'synop_pj = { value = inf, source = "x" }\n',
    "facts.synop_pj is -1.0,": MINIMAL + 'synop_pj = { value = -1.0, source = "x" }\n',
    "['index_bits'] describe how": MINIMAL + 'index_bits = { value = 10, source = "x" }\n',
    "facts.cores_per_chip is 0,": MINIMAL.replace("value = 4", "value = 0"),
    "facts.kernel_words_per_core is 4,": MINIMAL + 'kernel_words_per_core = { value = 4, source = "x" }\n',
    "facts.kernel_words_per_core is -1,": MINIMAL + 'kernel_words_per_core = { value = [4, -1], source = "x" }\n',
    "kernel_words_per_core has 2 numbers for 4 cores": MINIMAL
    + 'kernel_words_per_core = { value = [4, 4], source = "x" }\n',
    "index_bits_min is 4, above index_bits (None)": MINIMAL + 'index_bits_min = { value = 4, source = "x" }\n',
    "['mesh_rows'] describe the mesh": MINIMAL + 'mesh_rows = { value = 4, source = "x" }\n',
    "a mesh of 1 × 3 routers with 1 cores each holds 3": MINIMAL
    + "".join(
        f'{k} = {{ value = {v}, source = "x" }}\n'
        for k, v in (("mesh_columns", 1), ("mesh_rows", 3), ("cores_per_router", 1))
    ),
    "required key name is missing": MINIMAL.replace('name = "tiny"', ""),
    "name must be text": MINIMAL.replace('"tiny"', "3"),
    "target is ['loihi']": MINIMAL.replace("[facts]", 'target = ["loihi"]\n[facts]'),
    "target is {'a': 1}": MINIMAL.replace("[facts]", "target = { a = 1 }\n[facts]"),
    "facts must be a table": 'name = "tiny"\nfacts = 3\n',
    "required key facts is missing": 'name = "tiny"\n',
    "unknown key vendor": 'vendor = "x"\n' + MINIMAL,
    "is not TOML": "name = = 3",
}


@pytest.mark.parametrize("message", BROKEN)
def test_schema_errors_name_the_key(message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(BROKEN[message], encoding="utf-8")
    with pytest.raises(InvalidChip, match=re.escape(message)):
        load_chip(path)


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_required_fact(key: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("\n".join(line for line in MINIMAL.splitlines() if not line.startswith(key)), encoding="utf-8")
    with pytest.raises(InvalidChip, match=f"required key {key} is missing"):
        load_chip(path)


def test_a_chip_built_by_hand_is_checked_too() -> None:
    with pytest.raises(InvalidChip, match="input_axons_per_core is -1, but must be a whole number above 0"):
        Chip("tiny", 4, 8, input_axons_per_core=-1)
