"""Files of different runs in one folder are noticed, and by which command they are mended is said."""

from __future__ import annotations

import pkgutil
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hw_targets.app.cli import main
from hw_targets.app.run import hashes
from hw_targets.app.run_folder import RunFolder
from hw_targets.errors import InvalidFile
from tests.builders.tiny_run import digests, train, write_recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two spiking runs that differ in their seed alone."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("a", "b")):
        assert train(write_recipe(folder, "spiking", seed), folder / name, "--set", "quantization.lr=0.01") == 0
        assert main(["export", str(folder / name)]) == 0
    return folder / "a", folder / "b"


@pytest.fixture
def runs(trained: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the two."""
    for run in trained:
        shutil.copytree(run, tmp_path / run.name)
    return tmp_path / "a", tmp_path / "b"


@pytest.mark.parametrize(
    ("command", "after"),
    [
        (["map"], "hw_targets.app.cli.deployment._networks"),
        (["export"], "hw_targets.app.cli.deployment._networks"),
        (["export", "--format", "sanafe"], "hw_targets.app.cli.deployment._networks"),
        (["export", "--format", "nir"], "hw_targets.app.cli.deployment.write_nir"),
        (["map"], "hw_targets.app.cli.deployment.mapping_summary"),
        (["report"], "hw_targets.app.report.load_run"),
    ],
)
def test_a_run_that_takes_the_place_meanwhile_gets_no_result_of_the_one_before(
    command: list[str],
    after: str,
    runs: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    a, b = runs
    new, done = digests(b), pkgutil.resolve_name(after)

    def then_replaced(*given: Any, **named: Any) -> Any:
        found = done(*given, **named)
        a.rename(a.with_name("before"))
        b.rename(a)
        return found

    monkeypatch.setattr(after, then_replaced)
    capsys.readouterr()
    assert main([command[0], str(a), *command[1:], "--overwrite"]) == 2
    error = capsys.readouterr().err
    assert f"another run took the place of {a} meanwhile" in error
    assert error.splitlines()[-1].endswith("give the command again")
    assert digests(a) == new


MIXED = {
    "recipe.toml": "put the file back, or repeat the run",
    "model.safetensors": "put the file back, or repeat the run",
    "metrics.jsonl": "put the file back, remove it, or repeat the run",
    "summary.json": "put the file back, remove it, or repeat the run",
    "model.net": "remove it and make it again",
    "hashes.json": "put the file back, or repeat the run",
}


@pytest.mark.parametrize(("name", "remedy"), MIXED.items(), ids=MIXED)
@pytest.mark.parametrize("command", ["map", "emulate", "report", "synops", "fit"])
def test_a_mixed_folder_is_refused(
    command: str, name: str, remedy: str, runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = runs
    shutil.copy(b / name, a / name)
    before = digests(a)
    capsys.readouterr()
    assert main([command, str(a)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{a} is mixed: {'recipe.toml' if name == 'hashes.json' else name} was made by another run" in error
    assert remedy in error
    assert digests(a) == before


def test_a_result_that_this_run_never_wrote_is_refused_and_made_anew(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = runs
    good = (a / "model.net").read_bytes()
    shutil.copy(b / "model.net", a / "placement.npz")
    assert main(["emulate", str(a)]) == 2
    assert "placement.npz was made by another run" in capsys.readouterr().err
    (a / "placement.npz").unlink()
    shutil.copy(b / "model.net", a / "model.net")
    assert main(["export", str(a)]) == 2, "it exists"
    assert main(["export", str(a), "--overwrite"]) == 0
    assert (a / "model.net").read_bytes() == good
    RunFolder.open(a)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-5],
        lambda _: "{}",
        lambda _: "[]",
        lambda _: '{"files": {"recipe.toml": 3}}',
        lambda _: '{"files": {"recipe.toml": [3]}}',
        lambda _: "[" * 100_000,
    ],
    ids=["cut", "empty", "list", "number", "number in a list", "deep"],
)
def test_damaged_hashes_are_no_hashes(damage: Callable[[str], str], runs: tuple[Path, Path]) -> None:
    path = runs[0] / "hashes.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InvalidFile, match="does not hold hashes"):
        RunFolder.open(runs[0])


def test_a_folder_without_hashes_is_used_with_a_note(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (runs[0] / "hashes.json").unlink()
    assert main(["emulate", str(runs[0])]) == 0
    assert "has no hashes.json, so nothing tells whether its files are of one run" in capsys.readouterr().out


def test_results_elsewhere_are_nobodys_but_the_users(runs: tuple[Path, Path], tmp_path: Path) -> None:
    before = hashes.recorded(runs[0])
    assert main(["export", str(runs[0]), "--out", str(tmp_path / "elsewhere.net")]) == 0
    assert hashes.recorded(runs[0]) == before
    assert main(["export", str(runs[0]), "--out", str(runs[0] / "again.net")]) == 0
    found = hashes.recorded(runs[0])
    assert found is not None
    assert "again.net" in found


def test_what_a_placement_assumes_is_in_the_summary(runs: tuple[Path, Path]) -> None:
    for chip in ("loihi1", "loihi2"):
        assert main(["map", str(runs[0]), "--chip", chip, "--images", "2", "--overwrite"]) == 0
    maps = RunFolder.open(runs[0]).summary()["maps"]
    assert set(maps) == {"loihi1", "loihi2"}
    assert any("delay" in sentence for sentence in maps["loihi1"]["assumptions"]), "its skips are held so"
    assert maps["loihi1"]["cores"] >= maps["loihi1"]["lower_bound"] > 0


def test_killed_between_hash_and_file_both_are_known(runs: tuple[Path, Path]) -> None:
    folder = RunFolder.open(runs[0])
    path, before = runs[0] / "model.net", (runs[0] / "model.net").read_bytes()

    def interrupted() -> None:
        with folder.new_result(path, overwrite=True) as temporary:
            temporary.write_bytes(b"new")
            hashes._record(folder.path, {path: temporary})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    RunFolder.open(runs[0])
    path.write_bytes(b"new")
    RunFolder.open(runs[0])
    path.write_bytes(b"another")
    with pytest.raises(InvalidFile, match=r"model\.net was made by another run"):
        RunFolder.open(runs[0])


def test_two_commands_at_once_lose_nothing_of_each_other(runs: tuple[Path, Path]) -> None:
    folder, count = RunFolder.open(runs[0]), 20

    def command(name: str) -> None:
        for k in range(count):
            with folder.new_result(folder.path / f"{name}{k}.npz") as temporary:
                temporary.write_text(f"{name}{k}")
            folder.change_summary(
                lambda summary: {**summary, name: [*summary.get(name, []), len(summary.get(name, []))]}
            )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(command, ("a", "b")))
    assert {name: folder.summary()[name] for name in "ab"} == {name: list(range(count)) for name in "ab"}
    known = hashes.recorded(folder.path)
    assert known is not None
    assert {f"{name}{k}.npz" for name in "ab" for k in range(count)} <= set(known)
    RunFolder.open(folder.path)
