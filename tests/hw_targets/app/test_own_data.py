"""A data set of one's own, from the recipe that names it to a chip's answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hw_targets.app.cli import main
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.stages import first_samples, load_data, read_network
from hw_targets.emulation.emulate import emulate
from neuroprune.training.data.base import DataSet, Split
from neuroprune.training.data.own import REQUIRED
from neuroprune.training.loop import predictor
from neuroprune.training.recipe import load_recipe

MODULE = '''
import numpy as np
import torch
from dataclasses import dataclass
from neuroprune.training.data.base import Split


@dataclass(frozen=True)
class Bars:
    """Images of 8x8 with one bright row (class 0) or column (class 1), in two channels, as reals of 0 ... 1."""

    values: torch.Tensor
    labels: torch.Tensor

    in_unit_range = True
    classes = 2

    def __len__(self):
        return len(self.labels)

    @property
    def sample_shape(self):
        return tuple(self.values.shape[1:])

    def as_input(self, samples):
        return samples

    def subset(self, start, stop):
        return Bars(self.values[start:stop], self.labels[start:stop])

    def pixels(self, count):
        return self.values[:count]

    def batches(self, batch_size):
        for start in range(0, len(self), batch_size):
            yield self.values[start:start + batch_size], self.labels[start:start + batch_size]

    def training_batches(self, batch_size, epochs, seed):
        rng = np.random.default_rng(seed)
        for _ in range(epochs):
            order = torch.from_numpy(rng.permutation(len(self)))
            for start in range(0, len(self) - batch_size + 1, batch_size):
                chosen = order[start:start + batch_size]
                yield self.values[chosen], self.labels[chosen]


def bars(count, seed):
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 2, count))
    values = torch.zeros(count, 2, 8, 8)
    for image, label, at in zip(values, labels, rng.integers(0, 8, count)):
        (image[:, at] if label == 0 else image[:, :, at]).fill_(1.0)
    return Bars(values, labels)


def make(count=48):
    return bars(count, 0), bars(24, 1)


def split():
    return Split(bars(48, 0), bars(12, 2), bars(24, 1))


def nothing():
    return None


def wrong_parts():
    return [1, 2], [3]


def fails():
    raise RuntimeError("the disk is full")
'''

RECIPE = """name = "bars"
[model]
factory = "neuroprune.models.sew_resnet:SmallSEWResNet"
time_steps = 3
arguments = { widths = [4, 8], in_channels = 2, classes = 2 }
[data]
factory = "bars_of_my_own:make"
arguments = { count = 64 }
[training]
epochs = 8
batch_size = 8
lr = 0.1
[pruning]
l1 = 1e-4
"""


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "bars_of_my_own.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("bars_of_my_own", None)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def test_from_a_recipe_to_a_chip(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run("train", recipe, "--out", out) == 0
    assert load_recipe(out / "recipe.toml").data_arguments == {"count": 64}
    assert run("fit", recipe) == 0
    assert run("map", out, "--images", 4) == 0
    assert run("export", out) == 0
    assert run("synops", out, "--images", 4) == 0
    capsys.readouterr()
    assert run("emulate", out) == 0
    found = capsys.readouterr().out
    assert "24 test images" in found


def test_factories_give_splits_too(recipe: Path) -> None:
    text = recipe.read_text().replace(":make", ":split").replace("arguments = { count = 64 }\n", "")
    recipe.write_text(text)
    data = load_data(load_recipe(recipe))
    assert isinstance(data, Split)
    assert (len(data.train), len(data.validation), len(data.test)) == (48, 12, 24)
    recipe.write_text(text.replace("[data]", "[data]\ntrain_limit = 30\ntest_limit = 5"))
    data = load_data(load_recipe(recipe))
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 5, 5)


def test_what_is_asked_of_a_data_set_is_what_the_protocol_says() -> None:
    said = {key for key in vars(DataSet) if not key.startswith("_")} | {"__len__"}
    assert set(REQUIRED) == said


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("bars_of_my_own", 'expected "package.module:callable"'),
        ("no_such_module:make", "No module named 'no_such_module'"),
        ("bars_of_my_own:absent", "no attribute 'absent'"),
        ("bars_of_my_own:fails", "the disk is full"),
        ("bars_of_my_own:nothing", "gives a NoneType, expected a Split"),
        ("bars_of_my_own:wrong_parts", "gives a list without sample_shape"),
        ("os:system", "standard library"),
    ],
)
@pytest.mark.parametrize("command", ["train", "fit"])
def test_a_factory_that_is_none(
    factory: str, says: str, command: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(RECIPE.replace("bars_of_my_own:make", factory).replace("arguments = { count = 64 }\n", ""))
    out = ("--out", tmp_path / "run") if command == "train" else ()
    assert run(command, recipe, *out) == 2
    message = capsys.readouterr().err
    assert says in message
    assert "data.factory" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_wrong_arguments_of_a_factory(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(RECIPE.replace("count = 64", "size = 3"))
    assert run("fit", recipe) == 2
    assert "unexpected keyword argument 'size'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('folder = "pictures"', "data.factory"),
        ("image_size = 32", "data.image_size"),
    ],
)
def test_a_factory_beside_what_is_for_folders(
    change: str, says: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(RECIPE.replace("[data]", f"[data]\n{change}"))
    assert run("fit", recipe) == 2
    assert says in capsys.readouterr().err


def test_arguments_without_a_factory(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(RECIPE.replace('factory = "bars_of_my_own:make"\n', ""))
    assert run("fit", recipe) == 2
    assert "data.arguments" in capsys.readouterr().err


MLP = """
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn


def mlp(features, classes):
    model = nn.Sequential(layer.Linear(features, 12), neuron.IFNode(), layer.Linear(12, classes))
    functional.set_step_mode(model, "m")
    return model
"""


def samples_with_steps(kind: str, folder: Path) -> str:
    """The tables [model] and [data] of a recipe on a file that is written here."""
    rng = np.random.default_rng(0)
    if kind == "signals":
        arrays = {"x": rng.normal(size=(40, 3, 7)), "y": np.arange(40) % 2}
        np.savez(
            folder / "s.npz", x_train=arrays["x"], y_train=arrays["y"], x_test=arrays["x"][:6], y_test=arrays["y"][:6]
        )
        model = 'factory = "mlp_of_my_own:mlp"\narguments = { features = 3, classes = 2 }'
        return f'[model]\n{model}\n[data]\nfactory = "signals"\narguments = {{ train = "{folder}/s.npz" }}'
    count, samples = 4000, 40
    arrays = {"t": np.arange(count), "sample": np.arange(count) // 100, "label": np.arange(samples) % 2}
    arrays |= {key: rng.integers(0, side, count) for key, side in (("x", 8), ("y", 8), ("p", 2))}
    np.savez(folder / "e.npz", **arrays)
    model = 'factory = "neuroprune.models.sew_resnet:SmallSEWResNet"'
    model += "\narguments = { widths = [4, 8], in_channels = 2, classes = 2 }"
    options = f'train = "{folder}/e.npz", sensor_size = [8, 8, 2], steps = 5, mode = "{kind}"'
    return f'[model]\n{model}\n[data]\nfactory = "events"\narguments = {{ {options} }}'


@pytest.mark.parametrize("kind", ["binary", "counts", "signals"])
def test_samples_with_steps_of_their_own_reach_the_chip(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlp_of_my_own.py").write_text(MLP)
    recipe, out = tmp_path / "recipe.toml", tmp_path / "run"
    tables = samples_with_steps(kind, tmp_path)
    recipe.write_text(f'name = "{kind}"\n{tables}\n[training]\nepochs = 1\nbatch_size = 8\n[pruning]\nl1 = 1e-4\n')
    assert run("train", recipe, "--out", out) == 0
    commands = [("fit", recipe), ("map", out, "--images", 3), ("export", out), ("synops", out, "--images", 3)]
    assert [run(*command) for command in commands] == [0] * 4
    assert run("emulate", out) == 0
    assert f"{6 if kind == 'signals' else 8} test images" in capsys.readouterr().out
    data, folder = load_data(load_recipe(recipe)).test, RunFolder.open(out)
    model = folder.load_model()
    network = read_network(model, data, 99)
    assert network.time_steps == (7 if kind == "signals" else 5)
    with torch.no_grad():
        scores = predictor(model, 99, data)(model, data.as_input(data.pixels(4)))
    ours = emulate(network, first_samples(data, 4)).output / network.time_steps
    np.testing.assert_allclose(ours, scores.numpy(), atol=1e-5)
    sys.modules.pop("mlp_of_my_own", None)
