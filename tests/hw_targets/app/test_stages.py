"""From a trained model to the chip: what no output depends on stays off it, and the classes stay the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import hw_targets
from hw_targets import emulate, insert_relays, load_chip, place, quantize, remove_dead_neurons
from hw_targets.app.stages import map_network, to_chip, to_network
from hw_targets.errors import InvalidChip
from hw_targets.placement.fingerprint import fingerprint
from neuroprune.models.sew_resnet import SmallSEWResNet, functional

SILENT = 3


@pytest.fixture
def images() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((12, 1, 16, 16), np.float32))


@pytest.fixture
def model(images: Tensor) -> SmallSEWResNet:
    """A residual network whose batch-norm keeps `SILENT` pruned channels between two convolutions below threshold."""
    torch.manual_seed(0)
    model = SmallSEWResNet((4, 8))
    with torch.no_grad():
        for _ in range(20):
            functional.reset_net(model)
            model(images.expand(2, *images.shape))
        model.get_parameter("blocks.1.conv1.weight")[:SILENT] = 0
        model.get_parameter("blocks.1.bn1.bias")[:SILENT] = -5
    return model.eval()


def test_neurons_that_cannot_fire_are_left_out(model: SmallSEWResNet, images: Tensor) -> None:
    network, chip = to_network(model, images, 2), load_chip("loihi1")
    whole, smaller = quantize(network, chip, images), to_chip(network, chip, images)
    assert whole["blocks.1.sn1"].shape == (8, 4, 4)
    assert smaller["blocks.1.sn1"].shape == (8 - SILENT, 4, 4)
    before, after = emulate(whole, images), emulate(smaller, images)
    assert before.output.any()
    np.testing.assert_array_equal(after.output, before.output)
    relayed = insert_relays(to_chip(network, chip, images, for_format="netx"))
    assert emulate(relayed, images).output.shape == after.output.shape


def test_one_network_is_mapped_to_chips_of_equal_integers_only(model: SmallSEWResNet, images: Tensor) -> None:
    loihi, other = load_chip("loihi1"), load_chip("loihi2")
    network = to_chip(to_network(model, images, 2), loihi, images)
    mapped = map_network(network, (loihi, other), images)
    assert set(mapped.placements) == set(mapped.estimates) == {"loihi1", "loihi2"}
    with pytest.raises(InvalidChip, match="loihi1, narrow hold integers of different widths"):
        map_network(network, (loihi, replace(other, name="narrow", weight_bits=4)), images)


def test_the_library_has_the_command_lines_network_in_one_call(model: SmallSEWResNet, images: Tensor) -> None:
    """Its cores are those that `neuroprune map` counts; three calls by hand give the same."""
    network, chip = to_network(model, images, 2), load_chip("loihi1")
    ours, theirs = hw_targets.to_chip(network, chip, images), to_chip(network, chip, images)
    by_hand = remove_dead_neurons(quantize(network, chip, images))
    for other in (theirs, by_hand):
        assert fingerprint(ours) == fingerprint(other)
    assert place(ours, chip).core_count == map_network(theirs, (chip,), images).placements["loihi1"].core_count
    assert fingerprint(hw_targets.to_chip(network, chip)) == fingerprint(remove_dead_neurons(quantize(network, chip)))
