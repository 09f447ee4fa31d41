"""Recipes with a table [quantization]: the run ends on the chip's integers, and what follows uses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hw_targets import load_chip, quantize
from hw_targets.app.cli import deployment, main
from hw_targets.app.fine_tuning import check_fine_tuning, fine_tune
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.stages import Trained, load_data, to_chip, to_network
from hw_targets.errors import InvalidFile
from neuroprune.training.data.images import ImageSet
from neuroprune.training.hyperparameters import FineTuning, Hyperparameters
from neuroprune.training.recipe import InvalidRecipe, Recipe, load_recipe, save_recipe

TINY = Recipe(
    "tiny",
    "neuroprune.models.sew_resnet:SmallSEWResNet",
    {"widths": [2, 3]},
    time_steps=2,
    train_limit=320,
    test_limit=20,
    training=Hyperparameters(epochs=2, batch_size=32, lr=0.2, warmup_epochs=1.5),
    schedule_arguments={"target_sparsity": 0.4},
    quantization=FineTuning("loihi1", lr=0.05, format="netx"),
)


def test_a_run_ends_on_the_chips_integers_and_its_commands_use_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_recipe(TINY, tmp_path / "recipe.toml")
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "recipe.toml"), "--out", str(run)]) == 0
    folder = RunFolder.open(run)
    assert folder.recipe == TINY
    assert folder.summary()["sparsity"] >= 0.39
    scales = folder.scales("loihi1")
    assert scales is not None
    assert set(scales) >= {"sn1", "fc"}
    assert folder.scales("loihi2") is None
    images = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    network = to_network(folder.load_model(), images, TINY.time_steps)
    integers = quantize(network, load_chip("loihi1"), scales=scales)  # refuses weights that are not on them
    for s, whole in zip(network.synapses, integers.synapses, strict=True):
        assert not whole.op.weight[s.op.weight == 0].any()
    assert main(["report", str(run)]) == 0
    given: list[Any] = []

    def noted(*arguments: Any, **named: Any) -> Any:
        given.append(arguments[3])
        return to_chip(*arguments, **named)

    monkeypatch.setattr(deployment, "to_chip", noted)
    capsys.readouterr()
    assert main(["emulate", str(run)]) == 0
    model, chip = (word for word in capsys.readouterr().out.split() if word.replace(".", "").isdigit() and "." in word)
    assert model == chip, "the model's accuracy is the chip's"
    assert given == [scales]


def test_the_networks_integers_are_those_of_the_scales() -> None:
    torch.manual_seed(0)
    data = load_data(TINY)
    model = TINY.model().eval()
    rows: list[dict[str, float]] = []
    tuned = fine_tune(Trained(model, 0.0), TINY, data, record=rows.append)
    assert tuned.trained.model is model
    assert not model.training
    assert len(rows) == 10
    assert rows[1]["lr"] == 0.05
    network = to_network(model, data.test.pixels(2), TINY.time_steps)
    chip = to_chip(network, load_chip("loihi1"), data.test.pixels(2), tuned.scales)
    assert chip.scales["sn1"] == tuned.scales["sn1"]
    weights = {s.name: s.op.weight for s in network.synapses}
    unit = tuned.scales["blocks.0.sn1"]
    assert np.abs(weights["sn1→blocks.0.sn1"] * unit % 1 - 0.5).min() > 0.499


def test_normalised_images_are_refused_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(TINY)
    monkeypatch.setattr(ImageSet, "in_unit_range", False)
    with pytest.raises(InvalidRecipe, match="a chip takes inputs of 0 … 1"):
        check_fine_tuning(TINY, data)


def test_a_recipe_without_the_table_is_not_fine_tuned() -> None:
    with pytest.raises(InvalidRecipe, match=r"no table \[quantization\]"):
        fine_tune(Trained(TINY.model(), 0.0), replace(TINY, quantization=None), load_data(TINY))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("quantization.chip=loihi7", "unknown chip 'loihi7'"),
        ("quantization.epochs=0", "quantization.epochs must be a finite number of at least 1, got 0"),
        ("quantization.lr=-1.0", "quantization.lr must be a finite number of at least 0"),
        ("quantization.bits=4", "unknown key quantization.bits; known are ['chip', 'epochs', 'format', 'lr']"),
        ("quantization.chip=3", "quantization.chip has the wrong type"),
        ("quantization.chip=dynapse2", "dynapse2 is known by its limits alone"),
        ("quantization.format=nir", "for_format is 'nir', loihi has netx"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(
    change: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_recipe(TINY, tmp_path / "recipe.toml")
    out = tmp_path / "run"
    assert main(["train", str(tmp_path / "recipe.toml"), "--out", str(out), "--set", change]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_chip_file_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_recipe(replace(TINY, quantization=FineTuning("own.toml")), tmp_path / "recipe.toml")
    quantization = load_recipe("recipe.toml").quantization
    assert quantization is not None
    assert quantization.chip == str(tmp_path / "own.toml")


def test_scales_are_kept_with_the_weights_and_broken_ones_refused(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", TINY, overwrite=True)
    folder.save_model(TINY.model(), scales={"loihi1": {"sn1": 0.1 + 0.2}})
    assert folder.scales("loihi1") == {"sn1": 0.1 + 0.2}
    folder.save_model(TINY.model())
    assert folder.scales("loihi1") is None, "other weights, no scales"
    (folder.path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InvalidFile, match="does not hold scales as they are written"):
        folder.scales("loihi1")
