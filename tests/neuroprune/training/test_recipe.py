"""Recipes: written and read back, and schedules by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hw_targets.app.cli import main
from neuroprune import PGH, Cap, Caps, HardThreshold, Preconditioner, SparsityRamp, SynapticCosts
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


@pytest.mark.parametrize(
    "key", ["epochs", "batch_size", "lr", "momentum", "weight_decay", "seed", "warmup_epochs", "label_smoothing"]
)
def test_numbers_too_large_for_anything_are_refused(key: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    save_recipe(recipe("PGH", l1=0.5, beta=0.1), path)
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key} =")]
    lines.insert(lines.index("[training]") + 1, f"{key} = 1{'0' * 400}")
    path.write_text("\n".join(lines))
    with pytest.raises(InvalidRecipe, match=rf"training\.{key} must .*, got 1"):
        load_recipe(path)


def test_a_saved_recipe_reads_back_as_it_was(tmp_path: Path) -> None:
    original = recipe("PGH", l1=0.5, beta=0.1)
    save_recipe(original, tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml") == original


def test_a_schedule_that_needs_the_number_of_steps_gets_the_runs() -> None:
    tiny = recipe("PGH", l1=0.5, beta=0.1)
    model = tiny.model()
    optimizer = tiny.training.optimizer(model)
    steps = tiny.training.steps(100)
    pruner = tiny.pruner(optimizer, tiny.training.scheduler(optimizer, steps), steps, model)
    assert pruner.schedule == PGH(0.5, 0.1, steps=20)


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        ("LATZ", {"l1": 1.0}, r"unknown pruning.schedule 'LATZ'; known are .*'LATS'"),
        ("LATS", {"l_1": 1.0}, r"LATS has no key pruning.l_1; its keys are .*'l1'"),
        ("LATS", {}, r"give exactly one of l1 or final_threshold or target_sparsity"),
        ("PGH", {"l1": 1.0, "beta": 2.0}, r"beta.*the keys of PGH are"),
        ("LATS", {"l1": -1.0}, r"l1 must be a finite number >= 0, got -1.0"),
        ("prune_to", {}, r'schedule = "prune_to" needs pruning.sparsity, .*got \[\]'),
        ("prune_to", {"sparsity": 0.9, "l1": 1.0}, r"needs pruning.sparsity.*got \['l1', 'sparsity'\]"),
        ("prune_to", {"sparsity": 90.0}, r"pruning.sparsity cannot be used: .*must lie in 0 … 1.*got 90"),
    ],
)
def test_mistakes_in_the_pruning_table_name_the_key(schedule: str, arguments: Any, message: str) -> None:
    with pytest.raises(InvalidRecipe, match=message) as caught:
        recipe(schedule, **arguments).check(100)
    assert not re.search(r"\n|Traceback", str(caught.value))


@pytest.mark.parametrize("adamw", [False, True])
def test_every_key_of_the_pruning_table_is_read_saved_and_used(tmp_path: Path, adamw: bool) -> None:
    text = f"""
name = "tiny"
[model]
factory = "{SEW}"
arguments = {{ widths = [2] }}
[training]
batch_size = 10
lr = 0.01
adamw = {str(adamw).lower()}
[pruning]
"""

    def pruner_of(table: str) -> Any:
        (tmp_path / "recipe.toml").write_text(text + table)
        found = load_recipe(tmp_path / "recipe.toml")
        save_recipe(found, tmp_path / "saved.toml")
        assert load_recipe(tmp_path / "saved.toml") == found
        found.check(100)
        model = found.model()
        optimizer = found.training.optimizer(model)
        return found.pruner(optimizer, found.training.scheduler(optimizer, 20), 20, model)

    damping = "damping = 0.5" if adamw else ""
    ramp = pruner_of(
        f'schedule = "SparsityRamp"\ntarget_sparsity = 0.8\nramp = 0.7\nproximal = "HardThreshold"\n{damping}'
    )
    assert (ramp.schedule, ramp.proximal) == (SparsityRamp(0.8, 20, ramp=0.7), HardThreshold())
    assert ramp.precondition == (Preconditioner(0.5) if adamw else None)
    costly = pruner_of('schedule = "prune_to"\nsparsity = 0.9\ncosts = "synops"')
    assert isinstance(costly.costs, SynapticCosts)
    with pytest.raises(InvalidRecipe, match=r"unknown pruning.costs 'joules'; known are \['synops'\]"):
        pruner_of('schedule = "prune_to"\nsparsity = 0.9\ncosts = "joules"')
    recommended = pruner_of('schedule = "prune_to"\nsparsity = 0.9')
    assert recommended.costs is None
    assert (recommended.schedule, recommended.proximal) == (SparsityRamp(0.9, 20), HardThreshold())
    assert recommended.precondition == (Preconditioner(1.0) if adamw else None)
    for schedule in ('schedule = "prune_to"\nsparsity = 0.5', "l1 = 0.1"):
        capped = pruner_of(f"{schedule}\nfan_in = 7\nfan_out = 5")
        assert capped._parameters.given[0] == Caps(Cap(7, 20), Cap(5, 20))
    with pytest.raises(InvalidRecipe, match=r"pruning.fan_out: Cap: limit must be a whole number of synapses >= 1"):
        pruner_of("l1 = 0.1\nfan_out = 0")
    if not adamw:
        with pytest.raises(InvalidRecipe, match=r"the table pruning cannot be used: .*and SGD is none of them"):
            pruner_of('schedule = "SparsityRamp"\ntarget_sparsity = 0.8\ndamping = 1')
    with pytest.raises(InvalidRecipe, match=r"unknown pruning.proximal 'Hard'; known are .*'HardThreshold'"):
        pruner_of('l1 = 0.1\nproximal = "Hard"')
    with pytest.raises(InvalidRecipe, match=r'pruning.proximal is chosen by schedule = "prune_to"; leave it out'):
        pruner_of('schedule = "prune_to"\nsparsity = 0.9\nproximal = "Garrote"')
    with pytest.raises(InvalidRecipe, match=r"pruning.proximal has the wrong type: 1"):
        pruner_of("l1 = 0.1\nproximal = 1")
    with pytest.raises(InvalidRecipe, match=r"damping must be a finite number >= 0, got -1"):
        pruner_of("l1 = 0.1\ndamping = -1")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('costs = "joules"', "tiny: unknown pruning.costs 'joules'; known are"),
        ("fan_in = 0", "tiny: pruning.fan_in: Cap: limit must be a whole number of synapses >= 1, got 0"),
    ],
)
@pytest.mark.parametrize("schedule", ['schedule = "prune_to"\nsparsity = 0.5', "l1 = 0.1"])
def test_a_key_is_not_blamed_for_another(tmp_path: Path, schedule: str, table: str, says: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'name = "tiny"\n[model]\nfactory = "{SEW}"\n[pruning]\n{schedule}\n{table}\n')
    with pytest.raises(InvalidRecipe) as caught:
        load_recipe(path).check(1000)
    assert str(caught.value).startswith(says)


def test_too_few_images_for_a_step_of_several_batches() -> None:
    made = Recipe("tiny", SEW, training=Hyperparameters(batch_size=8, accumulate=20))
    with pytest.raises(InvalidRecipe, match=r"batch_size 8 times training.accumulate 20 exceeds the 100 .* lower one"):
        made.check(100)


def test_a_model_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "my_own_net.py").write_text(
        "from neuroprune.models.sew_resnet import SmallSEWResNet\ndef build(): return SmallSEWResNet((2, 3))\n"
    )
    (tmp_path / "own.toml").write_text('name = "own"\n[model]\nfactory = "my_own_net:build"\n')
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "own.toml"]) == 0
    assert "blocks.1.sn2" in capsys.readouterr().out
