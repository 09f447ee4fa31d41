"""The mesh and the costs of a chip as SANA-FE's architecture file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hw_targets.chips.chip import Chip
from hw_targets.errors import InvalidChip, UnsupportedModel
from hw_targets.estimation.mesh import core_positions
from hw_targets.estimation.result import COEFFICIENTS
from hw_targets.estimation.times import Times
from hw_targets.placement import Placement


@dataclass(frozen=True)
class Mesh:
    """A mesh of `width` × `height` tiles of `cores_per_tile`; `cores[k]` is SANA-FE's "tile.core" of core k.

    Tile i sits at (i // height, i % height). Inputs live on an extra core of tile 0, `input_core`.
    """

    width: int
    height: int
    cores_per_tile: int
    cores: tuple[str, ...]
    tiles_used: int

    @property
    def input_core(self) -> str:
        """Where the input neurons live."""
        return f"0.{self.cores_per_tile}"


def mesh_of(placement: Placement) -> Mesh:
    """The smallest mesh that holds every core at its position.

    Raises:
        UnsupportedModel: cores on several chips, or without positions.
    """
    positions, _ = core_positions(placement)
    if positions is None:
        raise UnsupportedModel(
            f"chip {placement.chip.name!r} has no published mesh, which SANA-FE needs; state mesh_rows"
        )
    if chips := set(positions[:, 0].tolist()) - {0}:
        raise UnsupportedModel(
            f"SANA-FE simulates one chip, but the placement takes {len(chips) + 1}; export a network that fits one"
        )
    width, height = (int(positions[:, axis].max(initial=0)) + 1 for axis in (1, 2))
    taken: dict[int, int] = {}
    cores: list[str] = []
    for _, x, y in positions.tolist():
        tile = x * height + y
        cores.append(f"{tile}.{taken.get(tile, 0)}")
        taken[tile] = taken.get(tile, 0) + 1
    return Mesh(width, height, max(taken.values(), default=1), tuple(cores), max(1, len(taken)))


def architecture(chip: Chip, mesh: Mesh, inputs: int, times: Times | None) -> str:
    """The text of the architecture file. Times that nobody published are written as 0.

    Raises:
        InvalidChip: an energy per operation, or per hop, that the chip does not state.
    """
    if missing := [key for key in COEFFICIENTS.values() if getattr(chip, key) is None]:
        raise InvalidChip(
            f"chip {chip.name!r} states no {', '.join(missing)}, which SANA-FE needs; use a chip that does"
        )
    latency = times or Times(0, 0, 0, 0, 0, 0, ((1, 0), (1, 0)), "")
    barrier = latency.barrier_ns(mesh.tiles_used)
    last = mesh.width * mesh.height - 1
    plain = _core("core", f"0..{mesh.cores_per_tile - 1}", chip, latency, 0)
    # Energies come from the chip, so a neuron's update costs nothing beyond the access: every neuron has one each step.
    lines = [
        "architecture:",
        f"  name: {chip.name}",
        f"  attributes: {{topology: mesh, width: {mesh.width}, height: {mesh.height}, link_buffer_size: 16,"
        f" sync_model: fixed, latency_sync: {_si(barrier, 'n')}}}",
        "  tile:",
        *_tile("0", chip, latency),
        *plain,
        *_core("entry", "0", chip, latency, inputs),
    ]
    if last:
        lines += [*_tile(f"1..{last}", chip, latency), *plain]
    return "\n".join(lines) + "\n"


def _tile(index: str, chip: Chip, times: Times) -> list[str]:
    costs: dict[str, str] = {}
    for directions, energy, latency in (
        (("east", "west"), chip.hop_east_west_pj, times.east_west_hop),
        (("north", "south"), chip.hop_north_south_pj, times.north_south_hop),
    ):
        for direction in directions:
            costs |= {f"energy_{direction}_hop": _si(energy, "p"), f"latency_{direction}_hop": _si(latency, "n")}
    return [f"    - name: tile[{index}]", f"      attributes: {_flow(costs)}", "      core:"]


def _core(name: str, index: str, chip: Chip, times: Times, inputs: int) -> list[str]:
    """A core with neurons, or (`inputs` > 0) with that many input neurons, which cost nothing."""
    assert chip.active_update_pj is not None
    assert chip.inactive_update_pj is not None
    free = {f"{kind}_{what}": "0.0" for kind in ("energy", "latency") for what in ("access_neuron", "update_neuron")}
    free |= {"energy_spike_out": "0.0", "latency_spike_out": "0.0"}
    lif = free | {
        "energy_access_neuron": _si(chip.inactive_update_pj, "p"),
        "latency_access_neuron": _si(times.inactive_update, "n"),
        "energy_spike_out": _si(chip.active_update_pj - chip.inactive_update_pj, "p"),
        "latency_spike_out": _si(times.active_update - times.inactive_update, "n"),
    }
    soma = f"input[0..{inputs - 1}]" if inputs else "lif"
    model = {"model": "input", **free} if inputs else {"model": "leaky_integrate_fire", **lif}
    units = {
        "axon_in": ("axon_in", {"energy_message_in": "0.0", "latency_message_in": _si(times.message, "n")}),
        "synapse": (
            "synapse",
            {
                "model": "current_based",
                "energy_process_spike": _si(chip.synop_pj, "p"),
                "latency_process_spike": _si(times.synaptic_event, "n"),
            },
        ),
        "dendrite": ("dendrite", {"model": "accumulator", "energy_update": "0.0", "latency_update": "0.0"}),
        "soma": (soma, model),
        "axon_out": (
            "axon_out",
            {"energy_message_out": _si(chip.spike_in_tile_pj, "p"), "latency_message_out": "0.0"},
        ),
    }
    neurons = max(inputs, chip.neurons_per_core or 1 << 16)
    lines = [
        f'        - name: "{name}[{index}]"',
        f"          attributes: {{buffer_position: soma, buffer_inside_unit: false, max_neurons_supported: {neurons}}}",
    ]
    for section, (unit, attributes) in units.items():
        lines.append(f'          {section}: [{{name: "{unit}", attributes: {_flow(attributes)}}}]')
    return lines


def _flow(attributes: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in attributes.items()) + "}"


def _si(value: float | None, prefix: str) -> str:
    """A number of pico- or nano-units as SANA-FE's plain SI."""
    assert value is not None
    exponent = {"p": -12, "n": -9}[prefix]
    return f"{value:.12g}e{exponent}" if value else "0.0"
