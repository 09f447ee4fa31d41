"""A disk that takes no more: one sentence, status 2, and every file as it was; with room again, all goes on."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hw_targets.app.cli import main
from hw_targets.app.run_folder import RunFolder
from tests.builders.media import fill, largest_file, make_read_only, tmpfs
from tests.builders.tiny_run import digests, stop_after, train, write_recipe

ROOT = Path(__file__).resolve().parents[4]
COMMANDS = {
    "map": ["map", "--images", "2"],
    "netx": ["export"],
    "nir": ["export", "--format", "nir"],
    "sanafe": ["export", "--format", "sanafe"],
    "report": ["report"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spiking run with all its results."""
    folder = tmp_path_factory.mktemp("faults")
    assert train(write_recipe(folder, "spiking"), folder / "run") == 0
    for command in COMMANDS.values():
        assert main([command[0], str(folder / "run"), *command[1:]]) == 0
    return folder / "run"


@pytest.fixture
def disk(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A small file system with the run on it."""
    with tmpfs(tmp_path / "disk", "4m") as folder:
        shutil.copytree(finished, folder / "run")
        yield folder


def refused(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a command that fails, and leaves all as it was."""
    before = digests(folder)
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert digests(folder) == before
    return error


@pytest.mark.parametrize("leave", [0, 8192])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_full_disk(command: list[str], leave: int, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(disk, leave)
    whole = [command[0], str(disk / "run"), *command[1:], "--overwrite"]
    capsys.readouterr()
    before = digests(disk / "run")
    status, error = main(whole), capsys.readouterr().err
    if status == 0:  # as small as that
        assert leave
        RunFolder.open(disk / "run")
        return
    assert status == 2
    assert "No space left on device" in error
    assert error.count("\n") == 1
    known = {name: digest for name, digest in digests(disk / "run").items() if name != "hashes.json"}
    assert {name: before[name] for name in known} == known
    RunFolder.open(disk / "run")
    (disk / "filler").unlink()
    assert main(whole) == 0


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_read_only_disk(command: list[str], disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_read_only(disk)
    error = refused([command[0], str(disk / "run"), *command[1:], "--overwrite"], disk, capsys)
    assert "cannot be written to" in error


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_limit_on_the_size_of_files(
    command: list[str], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with largest_file(300):
        error = refused([command[0], str(tmp_path / "run"), *command[1:], "--overwrite"], tmp_path, capsys)
    assert "File too large" in error


@pytest.mark.parametrize("name", ["x" * 300, "pipe", "link", "/dev/null"])
@pytest.mark.parametrize("command", [COMMANDS["map"], COMMANDS["netx"], COMMANDS["nir"], COMMANDS["sanafe"]])
def test_places_that_no_result_takes(
    command: list[str], name: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    out = str(tmp_path / name)
    refused([command[0], str(finished), *command[1:], "--out", out, "--overwrite"], tmp_path, capsys)
    assert (tmp_path / "pipe").is_fifo()
    assert os.readlink(tmp_path / "link") == "nowhere"
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("command", ["map", "export", "emulate", "synops", "report", "fit"])
def test_run_folders_whose_name_is_too_long(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused([command, str(tmp_path / ("x" * 300))], tmp_path, capsys)
    if command == "map":
        refused([command, str(tmp_path / ("x" * 300 + ".net"))], tmp_path, capsys)


def seeded() -> None:
    """What a recipe does not seed."""
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - what the models draw from


@pytest.mark.parametrize("leave", [0, 8192])
def test_a_disk_that_fills_while_a_run_trains(
    leave: int, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The earlier run is as it was, and with room again the new one goes on bit for bit."""
    recipe, old = write_recipe(tmp_path, "noisy"), digests(disk / "run")
    seeded()
    assert train(recipe, tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 11, lambda: fill(disk, leave))
        seeded()
        capsys.readouterr()
        assert train(recipe, disk / "run", "--overwrite", "--checkpoint-every", "4") == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert error.count("\n") == 1
    assert digests(disk / "run") == old
    assert train(recipe, disk / "run", "--resume") == 2, "there is still no room"
    (disk / "filler").unlink()
    assert train(recipe, disk / "run", "--resume") == 0
    assert digests(disk / "run") == digests(tmp_path / "whole")


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_disk_on_which_no_run_can_begin(
    fault: str, disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, "noisy")
    fill(disk, 0)
    if fault == "read-only":
        make_read_only(disk)
    before = digests(disk / "run")
    capsys.readouterr()
    for out in (disk / "run", disk / "new"):
        assert train(recipe, out, "--overwrite") == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert digests(disk / "run") == before


def test_hdf5_does_not_crash_when_the_process_ends(finished: Path, tmp_path: Path) -> None:
    arguments = ["export", str(finished), "--out", "x.net"]
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom hw_targets.app.cli import main\n"
    code += f"sys.exit(main({arguments}))"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))

    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        capture_output=True, text=True, check=False, cwd=tmp_path, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert not any(tmp_path.iterdir())
