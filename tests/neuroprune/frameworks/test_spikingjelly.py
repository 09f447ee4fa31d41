"""Models in SpikingJelly that show an image in every step themselves, and those that take the steps."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from neuroprune.frameworks.spikingjelly import FRAMEWORK


class Encoder(nn.Module):
    """Repeats what a convolution makes of an image, or loops over steps, as SpikingJelly's examples do."""

    def __init__(self, steps: int, *, loops: bool, sums: bool) -> None:
        super().__init__()
        self.steps, self.loops, self.sums = steps, loops, sums
        self.conv, self.fc = nn.Conv2d(1, 3, 3, padding=1), layer.Linear(48, 4, step_mode="s" if loops else "m")
        self.spiking = neuron.IFNode(0.2, step_mode="s" if loops else "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        current = self.conv(x)
        if self.loops:
            each = torch.stack([self.fc(self.spiking(current).flatten(1)) for _ in range(self.steps)])
        else:
            each = self.fc(self.spiking(current.expand(self.steps, *current.shape)).flatten(2))
        return each.mean(0) if self.sums else each


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("sums", [True, False])
def test_models_that_show_an_image_in_every_step_are_given_it_once(loops: bool, sums: bool) -> None:
    torch.manual_seed(0)
    model, images = Encoder(4, loops=loops, sums=sums).train(), torch.rand(5, 1, 4, 4)
    assert FRAMEWORK.shows_image(model, images[:1], 4)
    assert model.training
    functional.reset_net(model)
    expected = model(images)
    found = FRAMEWORK.predict(model, images, 4)
    torch.testing.assert_close(found, expected if sums else expected.mean(0))
    assert found.requires_grad


@pytest.mark.parametrize("mode", ["s", "m"])
def test_models_that_take_steps_are_not_taken_for_such(mode: str) -> None:
    model = nn.Sequential(layer.Conv2d(1, 3, 3), neuron.IFNode(), layer.Flatten(), layer.Linear(12, 4))
    functional.set_step_mode(model, mode)
    assert not FRAMEWORK.shows_image(model, torch.rand(1, 1, 4, 4), 4)
