"""What a recipe holds is read back the same by Python's own TOML reader, or refused before anything is trained."""

from __future__ import annotations

import datetime
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_targets.app.cli import main
from neuroprune.training.recipe import InvalidRecipe, Recipe, load_recipe, recipe_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SEW = "neuroprune.models.sew_resnet:SmallSEWResNet"
TEXT = st.text()  # of whole characters: hypothesis draws no surrogates by itself
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)))
INSTANTS = st.datetimes(datetime.datetime(2, 1, 1), datetime.datetime(9998, 12, 31), timezones=OFFSETS)
TIMES = st.one_of(st.times(), st.datetimes(), INSTANTS).map(lambda time: time.replace(fold=0))
SCALARS = st.one_of(TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.dates(), TIMES)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3), max_leaves=12)
TABLES = st.dictionaries(TEXT, VALUES, max_size=4)


def spelled(value: Any) -> Any:
    """A value with its type, in which NaN, −0 and instants in other time zones are told apart."""
    if isinstance(value, dict):
        return {key: spelled(item) for key, item in value.items()}
    return [spelled(item) for item in value] if isinstance(value, list) else (type(value), repr(value))


@given(TABLES, TABLES, TEXT)
def test_any_arguments_and_any_name_read_back_the_same(model: Any, data: Any, name: str) -> None:
    recipe = Recipe(name, SEW, model, data_factory=SEW, data_arguments=data)
    found = tomllib.loads(recipe_text(recipe))
    assert found["name"] == name
    assert spelled(found["model"]["arguments"]) == spelled(model)
    assert spelled(found["data"].get("arguments", {})) == spelled(data)


@given(TABLES)
def test_a_recipe_of_any_arguments_is_the_same_recipe(tmp_path_factory: pytest.TempPathFactory, table: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    original = Recipe("tiny", SEW, table)
    path.write_text(recipe_text(original), encoding="utf-8")
    found = load_recipe(path)
    assert spelled(found.arguments) == spelled(table)
    assert recipe_text(found) == recipe_text(original)


WRITTEN = '''name = "line 1\\nline 2 \\"quoted\\" \\u007f"
[model]
factory = "neuroprune.models.sew_resnet:SmallSEWResNet"
[model.arguments]
"a key" = 1979-05-27T07:32:00.5-07:00
dotted."b.c" = [1979-05-27, 07:32:00, {inner = """two
lines"""}]
[[model.arguments.tables]]
"" = inf
[[model.arguments.tables]]
x = [[1, 2.0], ["ü"]]
'''


def test_what_people_write_is_saved(tmp_path: Path) -> None:
    (tmp_path / "given.toml").write_text(WRITTEN, encoding="utf-8")
    text = recipe_text(load_recipe(tmp_path / "given.toml"))
    assert tomllib.loads(text)["model"]["arguments"] == tomllib.loads(WRITTEN)["model"]["arguments"]
    assert tomllib.loads(text)["name"] == 'line 1\nline 2 "quoted" \x7f'


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "model.arguments.x cannot be saved: TOML has no NoneType"),
        ({1: 2}, "model.arguments.x cannot be saved: keys are text in TOML, got 1"),
        ({1, 2}, "TOML has no set"),
        ("\udc80", "half a character"),
        (16**5000, "model.arguments.x cannot be saved: .*digits"),
        (type("Whole", (int,), {})(3), "TOML has no Whole"),
        (datetime.time(1, fold=1), "read back otherwise"),
        (datetime.time(1, tzinfo=datetime.timezone.utc), "cannot be saved as TOML"),
    ],
    ids=["none", "number as key", "set", "surrogate", "digits", "subclass", "fold", "time of a zone"],
)
def test_what_toml_does_not_have_is_refused_by_its_key(value: Any, says: str) -> None:
    with pytest.raises(InvalidRecipe, match=f"^tiny: .*{says}"):
        recipe_text(Recipe("tiny", SEW, {"x": value}))


def test_deep_nesting_is_refused_whichever_way_it_goes(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(InvalidRecipe, match="cannot be saved"):
        recipe_text(Recipe("tiny", SEW, {"x": deep}))
    path = tmp_path / "deep.toml"
    path.write_text(f"x = {'[' * 20_000}{']' * 20_000}")
    with pytest.raises(InvalidRecipe, match="nested too deeply"):
        load_recipe(path)
    path.write_text(f"x = {'1' * 5_000}")
    with pytest.raises(InvalidRecipe, match=r"not valid TOML: .*digits"):
        load_recipe(path)


def test_a_change_may_name_a_quoted_key(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(f'name = "tiny"\n[model]\nfactory = "{SEW}"\n')
    found = load_recipe(path, ['model.arguments."a.b" = nan', "model.arguments.c=1\nd = 2", 'name = "x"'])
    assert math.isnan(found.arguments["a.b"])
    assert (found.arguments["c"], found.name) == ("1\nd = 2", "x")
    for change in ("training.epochs", "=1", "a..b=1", "x\ny=1", "[table]\nx=1"):
        with pytest.raises(InvalidRecipe, match=r"a change must read table\.key=value"):
            load_recipe(path, [change])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("system", "is a builtin_function_or_method, expected a function"),
        ("getoutput", "is part of Python's standard library"),
        ("Path", "is the class Path, expected a function of your own, or a class derived from torch"),
        ("os", "is a module, expected a function"),
        ("ImageSet", "is the class ImageSet, expected a function of your own, or a class derived from torch"),
        ("loadtxt", "cannot be built"),
        ("partial_of_a_function", "is a partial, expected a function"),
    ],
)
def test_a_factory_is_a_function_or_a_module_of_ones_own(
    line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a module of one's own has imported something else."""
    (tmp_path / "lent_names.py").write_text(
        "import os\nfrom functools import partial\nfrom os import system\nfrom pathlib import Path\n"
        "from subprocess import getoutput\n"
        "from numpy import loadtxt\nfrom neuroprune.training.data.images import ImageSet\n"
        "partial_of_a_function = partial(loadtxt)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(
        f'name = "tiny"\n[model]\nfactory = "lent_names:{line}"\n[model.arguments]\ncommand = "touch {tmp_path}/ran"\n'
    )
    for command in (["fit", str(path)], ["train", str(path), "--out", str(tmp_path / "out")]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert not (tmp_path / "ran").exists()
