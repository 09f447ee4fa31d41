"""Recipes: written and read back, and schedules by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hw_targets.app.cli import main
from neuroprune import PGH
from neuroprune.training.loop import Hyperparameters
from neuroprune.training.recipe import InvalidRecipe, Recipe, load_recipe, save_recipe

SEW = "neuroprune.models.sew_resnet:SmallSEWResNet"
EXAMPLES = Path(__file__).parents[3] / "examples" / "recipes"


def recipe(schedule: str, **arguments: Any) -> Recipe:
    hyper = Hyperparameters(epochs=2, batch_size=10, lr=0.1)
    return Recipe(
        "tiny", SEW, {"widths": [2]}, train_limit=100, training=hyper, schedule=schedule, schedule_arguments=arguments
    )


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda p: p.stem)
def test_example_recipes_are_valid(path: Path) -> None:
    load_recipe(path).check(1000)


def test_a_saved_recipe_reads_back_as_it_was(tmp_path: Path) -> None:
    original = recipe("PGH", l1=0.5, beta=0.1)
    save_recipe(original, tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml") == original


def test_a_schedule_that_needs_the_number_of_steps_gets_the_runs() -> None:
    tiny = recipe("PGH", l1=0.5, beta=0.1)
    optimizer = tiny.training.optimizer(tiny.model())
    steps = tiny.training.steps(100)
    pruner = tiny.pruner(optimizer, tiny.training.scheduler(optimizer, steps), steps)
    assert pruner.schedule == PGH(0.5, 0.1, steps=20)


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        ("LATZ", {"l1": 1.0}, r"unknown pruning.schedule 'LATZ'; known are .*'LATS'"),
        ("LATS", {"l_1": 1.0}, r"LATS has no key pruning.l_1; its keys are .*'l1'"),
        ("LATS", {}, r"give exactly one of l1 or final_threshold or target_sparsity"),
        ("PGH", {"l1": 1.0, "beta": 2.0}, r"beta.*the keys of PGH are"),
        ("LATS", {"l1": -1.0}, r"l1 must be a finite number >= 0, got -1.0"),
    ],
)
def test_mistakes_in_the_pruning_table_name_the_key(schedule: str, arguments: Any, message: str) -> None:
    with pytest.raises(InvalidRecipe, match=message) as caught:
        recipe(schedule, **arguments).check(100)
    assert not re.search(r"\n|Traceback", str(caught.value))


def test_a_model_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "my_own_net.py").write_text(
        "from neuroprune.models.sew_resnet import SmallSEWResNet\ndef build(): return SmallSEWResNet((2, 3))\n"
    )
    (tmp_path / "own.toml").write_text('name = "own"\n[model]\nfactory = "my_own_net:build"\n')
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "own.toml"]) == 0
    assert "blocks.1.sn2" in capsys.readouterr().out
