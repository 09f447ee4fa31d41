"""What notebooks show of results: the numbers that these hold, and names only as letters."""

from __future__ import annotations

import re

import torch
from torch import nn

import hw_targets
from hw_targets.app.stages import weight_rows
from neuroprune import count_synops
from neuroprune.models.sew_resnet import SmallSEWResNet, functional


def cells(result: object) -> list[list[str]]:
    """The texts of the rows of what a notebook asks for."""
    page: str = getattr(result, "_repr_html_")()  # noqa: B009 - as notebooks ask for it
    assert re.fullmatch(r"<table>.*</table>", page, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]


def test_results_show_their_numbers() -> None:
    torch.manual_seed(0)
    model, images = SmallSEWResNet((4, 4)).eval(), torch.rand(2, 1, 8, 8)
    counted = count_synops(model, images.expand(3, *images.shape))
    functional.reset_net(model)
    shown = cells(counted)
    assert shown[-1] == ["sum", "", f"{counted.total:,}", f"{counted.dense:,}", f"{counted.macs:,}"]
    assert [row[0] for row in shown[1:-1]] == list(counted.layers)
    chip = hw_targets.load_chip("loihi1")
    network = hw_targets.to_chip(hw_targets.from_torch(model, images.expand(3, *images.shape)), chip)
    activity = hw_targets.emulate(network, images)
    placement = hw_targets.place(network, chip, activity)
    assert [row[1] for row in cells(placement)[1:]] == [f"{core.neurons:,}" for core in placement.usage]
    cost = hw_targets.estimate(placement, activity, chip)
    rows = cells(cost)
    assert rows[-1][0] == "sum"
    assert rows[-1][-1] == f"{cost.energy:.3g}"
    assert [row[0] for row in rows[1:-1]] == list(cost.populations)


def test_names_are_only_letters() -> None:
    model = nn.Sequential()
    model.add_module("<b>", nn.Linear(2, 2))
    assert cells(count_synops(model, torch.ones(1, 2)))[1][0] == "&lt;b&gt;"


def test_products_without_a_layer_count_the_weights_they_multiply_with() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
            self.inner = nn.Linear(2, 2, bias=False)

    names = ["inner", "inner (matmul)", "Own (linear)"]
    model = Own()
    assert [(row["weights"], row["zeros"]) for row in weight_rows(model, names)] == [(4, 0), (4, 0), (4, 2)]
    assert [row["name"] for row in weight_rows(model)] == ["inner"]
