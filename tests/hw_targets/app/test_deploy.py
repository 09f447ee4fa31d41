"""`deploy`: the numbers of its parts, the reasons of those that cannot be done, and the mistakes of its user."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hw_targets
from hw_targets.app.cli import main
from hw_targets.app.given import as_split, load_state
from hw_targets.app.stages import read_network
from hw_targets.errors import HardwareTargetError, InvalidFile, InvalidNetwork, UnsupportedModel
from neuroprune import count_synops
from neuroprune.models.sew_resnet import SmallSEWResNet, functional

T, COUNT = 3, 40
MODULE = """
from torch import nn
from neuroprune.models.sew_resnet import SmallSEWResNet


def small(classes=10):
    return SmallSEWResNet((4, 4), classes=classes)


def number():
    return 3


class Malice:
    def __reduce__(self):
        return (print, ("executed",))
"""


@pytest.fixture(scope="module")
def samples() -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (COUNT, 1, 8, 8), np.uint8)), torch.arange(COUNT) % 10


@pytest.fixture(scope="module")
def model(samples: tuple[Tensor, Tensor]) -> SmallSEWResNet:
    """Trained statistics of its batch-norm, half of its weights zero."""
    torch.manual_seed(0)
    model = SmallSEWResNet((4, 4))
    with torch.no_grad():
        for _ in range(20):
            functional.reset_net(model)
            model((samples[0] / 255).expand(T, *samples[0].shape))
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(weight.abs() > weight.abs().median())
    return model.eval()


@pytest.fixture
def _no_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lava takes half a minute, and is compared with elsewhere."""

    def unavailable(*_: Any, **__: Any) -> None:
        raise ImportError("Lava cannot be imported")

    monkeypatch.setattr("hw_targets.targets.loihi.lava.check.compare_with_lava", unavailable)


@pytest.mark.usefixtures("_no_lava")
def test_the_numbers_are_those_of_the_library(
    model: SmallSEWResNet, samples: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    dense = SmallSEWResNet((4, 4)).eval()
    done = hw_targets.deploy(model, samples, time_steps=T, out=tmp_path / "out", dense=dense, name="mine")
    assert done.not_done == {"verify": "Lava cannot be imported"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("hashes.json", "summary.json", "model.net", "model.nir", "placement.npz", "report.html")
    }
    test = as_split(samples)[0].test
    shown = test.as_input(test.pixels(99))
    labels = torch.cat([labels for _, labels in test.batches(99)])
    assert len(test) == 8
    with torch.no_grad():
        functional.reset_net(model)
        scores = model(shown.expand(T, *shown.shape)).mean(0)
    functional.reset_net(model)
    assert done.summary["pruned_accuracy"] == float((scores.argmax(1) == labels).float().mean())
    counted = count_synops(model, shown.expand(T, *shown.shape))
    assert done.summary["synops_pruned"] == counted.total / 8
    functional.reset_net(model)
    assert done.chip_network is not None
    assert done.placement is not None
    assert done.estimate is not None
    assert done.activity is not None
    again = hw_targets.emulate(done.chip_network, shown)
    np.testing.assert_array_equal(done.activity.output, again.output)
    right = again.output.argmax(1) == labels.numpy()
    assert done.summary["chip_accuracy"] == right.mean()
    chip = hw_targets.load_chip("loihi1")
    cost = hw_targets.estimate(hw_targets.place(done.chip_network, chip, again), again, chip)
    assert done.estimate.energy == done.summary["energy_pruned_j"] == cost.energy
    check = done.summary["checks"][0]
    assert check["differences"] == 0
    assert check["compared"] > 0
    zeros = sum(int((p == 0).sum()) for p in model.parameters() if p.dim() > 1)
    assert round(done.summary["sparsity"] * done.summary["weights"]) == zeros
    saved = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert saved == json.loads(json.dumps(done.summary))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "verify</b>: Lava cannot be imported" in page
    assert "unknown" not in page.replace("limit unknown", "")
    raster = saved["raster"]["populations"][0]
    whole = hw_targets.emulate(
        hw_targets.quantize(hw_targets.from_torch(model, shown.expand(T, *shown.shape)), chip), shown
    )
    assert raster["neurons"] == whole.spikes[raster["name"]][0, 0].size
    with pytest.raises(InvalidFile, match="exists already"):
        hw_targets.deploy(model, samples, time_steps=T, out=tmp_path / "out")


def test_what_a_chip_cannot_do_has_its_reason_and_the_rest_goes_on(samples: tuple[Tensor, Tensor]) -> None:
    ordinary = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    done = hw_targets.deploy(ordinary, samples)
    assert done.summary["pruned_accuracy"] >= 0
    assert done.summary["macs_pruned"] == 640
    assert done.summary["weights"] == 640
    assert "no spiking neurons" in done.not_done["read"]
    assert done.not_done["quantize"] == "needs the part 'read', which was not done"
    assert {"emulate", "place and estimate", "compare with torch", "verify"} <= set(done.not_done)
    assert [done.network, done.placement, done.report] == [None] * 3


def test_a_chip_of_limits_alone_and_one_that_is_too_small(
    model: SmallSEWResNet, samples: tuple[Tensor, Tensor]
) -> None:
    limits = hw_targets.deploy(model, samples, chip="truenorth", time_steps=T)
    assert "truenorth" in limits.not_done["quantize"]
    assert limits.network is not None
    small = replace(hw_targets.load_chip("loihi1"), input_axons_per_core=20)
    done = hw_targets.deploy(model, samples, chip=small, time_steps=T)
    assert "input axons" in done.not_done["place and estimate"]
    assert done.chip_network is not None
    assert done.placement is None
    assert "cores" not in done.summary


def test_one_set_alone_calibrates_nothing_and_the_page_says_so(
    model: SmallSEWResNet, samples: tuple[Tensor, Tensor]
) -> None:
    test = as_split(samples)[0].test
    done = hw_targets.deploy(model, test, time_steps=T, samples=2, tested=5)
    assert done.summary["notes"][:2] == [
        "Accuracies are of 5 of 8 test samples.",
        "No samples but those tested on were given, so that the integers were not calibrated.",
    ]
    assert done.activity is not None
    assert done.activity.samples == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "say for how many steps"),
        ({"data": 3}, "data is a int; give"),
        (
            {"data": (torch.zeros(9, 3, 8, 8), torch.zeros(9, dtype=torch.long)), "time_steps": T},
            "does not take samples",
        ),
        ({"data": (torch.zeros(30, 1, 8, 8), torch.arange(30)), "time_steps": T}, "but the data has 30 classes"),
        ({"chip": "loihi9", "time_steps": T}, "unknown chip"),
        ({"chip": None, "time_steps": T}, "load_chip: got a NoneType"),
        ({"samples": 0, "time_steps": T}, "deploy: samples must be a whole number >= 1, got 0"),
        ({"samples": -1, "time_steps": T}, "deploy: samples must be a whole number >= 1, got -1"),
        ({"tested": "3", "time_steps": T}, "deploy: tested must be a whole number >= 1, got '3'"),
        ({"compared": None, "time_steps": T}, "deploy: compared must be a whole number >= 1, got None"),
        ({"time_steps": 2.5}, r"deploy: time_steps must be a whole number >= 1, got 2\.5"),
        ({"dense": "x", "time_steps": T}, "deploy: got a str, expected a Module"),
        ({"out": 1, "time_steps": T}, "a path was expected, got a int"),
    ],
)
def test_mistakes_are_refused_before_anything_is_done(
    arguments: dict[str, Any], says: str, model: SmallSEWResNet, samples: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(HardwareTargetError, match=says):
        hw_targets.deploy(model, **{"data": samples, **arguments})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: tuple[Tensor, Tensor]) -> Iterator[Path]:
    """A user's folder: a module with factories, and data."""
    (tmp_path / "nets_of_my_own.py").write_text(MODULE)
    np.savez(tmp_path / "data.npz", x=samples[0].numpy(), y=samples[1].numpy())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("nets_of_my_own", None)


@pytest.mark.usefixtures("_no_lava")
def test_the_command(folder: Path, model: SmallSEWResNet, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, "model.pt")
    given = ["deploy", "nets_of_my_own:small", "--weights", "model.pt", "--data", "data.npz", "--time-steps", str(T)]
    assert main([*given, "--out", "out", "--model-arg", "classes=10"]) == 0
    said = capsys.readouterr().out
    assert "0 differences in" in said
    assert "not done: verify: Lava cannot be imported" in said
    assert (folder / "out" / "report.html").is_file()
    assert main(["report", "out", "--overwrite"]) == 0
    assert main(["report", "out", "out", "--out", "both.html"]) == 0
    assert "2 runs" in (folder / "both.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "nets_of_my_own:absent"}, "no attribute 'absent'"),
        ({"model": "os:system"}, "standard library"),
        ({"model": "nets_of_my_own:number"}, "gives a int, no torch module"),
        ({"--weights": "none.safetensors"}, "cannot be read as weights"),
        ({"--weights": "data.npz"}, "cannot be read as weights"),
        ({"--weights": "malice.pt"}, "cannot be read as weights"),
        ({"--weights": "list.pt"}, "holds no state_dict"),
        ({"--weights": "other.pt"}, "does not hold the weights of nets_of_my_own:small: Missing key"),
        ({"--data": "none.npz"}, "none.npz does not exist"),
        ({"--data": "os:system"}, "standard library"),
        ({"--model-arg": "classes"}, "must read key=value"),
        ({"--model-arg": "colour=3"}, "unexpected keyword argument 'colour'"),
        ({"--out": "taken"}, "training run, whose results would be lost"),
    ],
)
def test_mistakes_end_in_one_sentence(
    change: dict[str, str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nets_of_my_own import Malice  # type: ignore[import-not-found]  # written by the fixture

    for name, value in (("malice", Malice()), ("list", [1, 2]), ("other", nn.Linear(2, 2).state_dict())):
        torch.save(value, f"{name}.pt")
    (folder / "taken").mkdir()
    (folder / "taken" / "recipe.toml").touch()
    options = {"--data": "data.npz", "--time-steps": str(T), "--out": "out"} | change
    model = options.pop("model", "nets_of_my_own:small")
    assert main(["deploy", model, *(word for pair in options.items() for word in pair)]) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.count("\n") == 1
    assert "executed" not in shown.out
    assert not (folder / "out").exists()


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    state = nn.Linear(2, 3).state_dict()
    safetensors.save_file(state, str(tmp_path / "a.safetensors"))
    found = load_state(tmp_path / "a.safetensors")
    assert all(torch.equal(found[key], state[key]) for key in state)
    (tmp_path / "a.safetensors").write_bytes(b"short")
    with pytest.raises(InvalidFile, match="cannot be read as weights"):
        load_state(tmp_path / "a.safetensors")


def test_samples_with_steps_of_their_own(model: SmallSEWResNet, samples: tuple[Tensor, Tensor]) -> None:
    events = (samples[0][:, None] > torch.tensor([100, 150, 200]).view(1, T, 1, 1, 1)).numpy()
    done = hw_targets.deploy(model, (events, samples[1]))
    assert done.network is not None
    assert done.network.time_steps == T
    assert done.summary["checks"][0]["differences"] == 0
    with pytest.raises(InvalidNetwork, match="does not take samples"):
        hw_targets.deploy(model, (events[:, :, 0], samples[1]), time_steps=T)


class Turned(nn.Module):
    """Takes (N, T, …) where what it holds takes (T, N, …), and the other way round."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x.transpose(0, 1))


def test_a_model_that_takes_time_second_is_to_be_turned_round(
    model: SmallSEWResNet, samples: tuple[Tensor, Tensor]
) -> None:
    events = (samples[0][:, None] > torch.tensor([100, 150, 200]).view(1, T, 1, 1, 1)).numpy()
    data = as_split((events, samples[1]))[0].test
    with pytest.raises(
        UnsupportedModel, match=r"time second.*wrap it in a module whose forward calls it with x.transpose"
    ):
        read_network(Turned(model), data, T)
    advised = read_network(Turned(Turned(model)), data, T)
    shown = torch.from_numpy(events[:4]).transpose(0, 1)
    expected = hw_targets.emulate(read_network(model, data, T), shown).output
    np.testing.assert_allclose(hw_targets.emulate(advised, shown).output, expected)
