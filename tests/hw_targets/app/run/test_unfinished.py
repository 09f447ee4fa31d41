"""A run takes the place of an earlier one whole and last, and of nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hw_targets.app.run import hashes, unfinished
from hw_targets.app.run.unfinished import UnfinishedRun, check_place, foreign, unfinished_path
from hw_targets.app.run_folder import RunFolder
from hw_targets.errors import InvalidFile
from tests.builders.tiny_run import digests


def make_run(out: Path, model: bytes = b"model", *, overwrite: bool = False) -> None:
    """A finished run, without training."""
    run = UnfinishedRun.begin(out, f'name = "{model.decode()}"\n', {}, overwrite=overwrite)
    (run.path / "model.safetensors").write_bytes(model)
    (run.path / "summary.json").write_text("{}")
    run.finish()


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A run with results under names of all kinds, and things that are nobody's result."""
    out = tmp_path / "out"
    make_run(out, b"old")
    folder = RunFolder.open(out)
    for name in ("model.net", "my own name.bin"):
        with folder.new_result(out / name) as temporary:
            temporary.write_bytes(b"old result")
    names = ("architecture.yaml", "network.yaml", "run.json")
    with folder.new_results([out / "sanafe" / name for name in names]) as temporary:
        for name in names:
            (temporary / name).write_bytes(b"old result")
    (out / "loihi2.placement.npz").write_bytes(b"old result, not recorded")
    (out / "notes").mkdir()
    (out / "notes" / "a.txt").write_text("mine")
    (out / "link").symlink_to("nowhere")
    os.mkfifo(out / "pipe")
    return out


NOTHING_LEFT = {"hashes.json", "link", "model.safetensors", "notes", "pipe", "recipe.toml", "summary.json"}


def test_no_result_of_an_earlier_model_survives_and_nothing_else_is_lost(earlier: Path) -> None:
    assert foreign(earlier) == ["link", "notes/a.txt", "pipe"]
    make_run(earlier, b"new", overwrite=True)
    assert {path.name for path in earlier.iterdir()} == NOTHING_LEFT
    assert (earlier / "notes" / "a.txt").read_text() == "mine"
    assert os.readlink(earlier / "link") == "nowhere"
    assert (earlier / "model.safetensors").read_bytes() == b"new"
    assert RunFolder.open(earlier).is_tied
    assert [path.name for path in earlier.parent.iterdir()] == ["out"]


def test_the_earlier_run_is_there_until_the_new_one_is_whole(earlier: Path) -> None:
    before = digests(earlier)
    run = UnfinishedRun.begin(earlier, "", {}, overwrite=True)
    (run.path / "model.safetensors").write_bytes(b"new")
    assert digests(earlier) == before
    run.discard()
    assert digests(earlier) == before


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", range(14))
def test_killed_at_any_moment_of_the_change_all_is_there_and_resume_does_the_rest(
    moment: int, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = UnfinishedRun.begin(earlier, 'name = "new"\n', {}, overwrite=True)
    (run.path / "model.safetensors").write_bytes(b"new")
    (run.path / "summary.json").write_text("{}")
    (run.path / "checkpoints").mkdir()
    left = [moment]

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object, **named: object) -> None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            real(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        for module, name in ((os, "rename"), (os, "replace"), (unfinished, "_remove"), (unfinished, "sync")):
            patch.setattr(module, name, counted(getattr(module, name)))
        try:
            run.finish()
        except Killed:
            run.lock.close()
    if not earlier.exists():
        again = UnfinishedRun.resume(earlier)
        assert again is not None
        assert again.is_sealed
        again.finish()
    elif (earlier / "model.safetensors").read_bytes() == b"old":
        again = UnfinishedRun.resume(earlier)
        assert again is not None
        again.finish()
    RunFolder.open(earlier)
    assert (earlier / "model.safetensors").read_bytes() == b"new"
    assert {path.name for path in earlier.iterdir()} - {".replaced", "lock"} == NOTHING_LEFT
    make_run(earlier, b"newer", overwrite=True)
    assert {path.name for path in earlier.iterdir()} == NOTHING_LEFT


def test_a_run_that_was_killed_while_it_moved_in_is_not_begun_over(earlier: Path) -> None:
    """Its folder holds the earlier run, too."""
    run = UnfinishedRun.begin(earlier, 'name = "new"\n', {}, overwrite=True)
    (run.path / "model.safetensors").write_bytes(b"new")
    hashes.seal(run.path)
    run.lock.close()
    os.rename(earlier, run.path / ".replaced")
    with pytest.raises(InvalidFile, match="exists already"):
        UnfinishedRun.begin(earlier, "", {})
    assert (earlier / "model.safetensors").read_bytes() == b"new"
    assert (earlier / "notes" / "a.txt").read_text() == "mine"


def fill_foreign(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


def make_almost_a_run(path: Path) -> None:
    path.mkdir()
    (path / "recipe.toml").write_text("of a cake")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (fill_foreign, "holds no run"),
        (make_almost_a_run, "holds no run"),
        (Path.touch, "is no folder"),
        (os.mkfifo, "is no folder"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nowhere, where nothing is"),
        (lambda path: path.symlink_to("/dev/null"), "is no folder"),
    ],
    ids=["foreign", "recipe alone", "file", "pipe", "dangling link", "device"],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_else_is_replaced(make: Callable[[Path], None], says: str, overwrite: bool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out)
    before = digests(tmp_path)
    with pytest.raises(InvalidFile, match=says if overwrite else "exists already|" + says):
        UnfinishedRun.begin(out, "", {}, overwrite=overwrite)
    assert digests(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_places_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="disk of its own"):
        check_place(Path("/"), overwrite=True)
    for name in ("x" * 250, "x" * 300, "a\0b"):
        with pytest.raises(InvalidFile, match="choose another"):
            UnfinishedRun.begin(tmp_path / name, "", {})
    (tmp_path / "file").touch()
    with pytest.raises(InvalidFile, match="cannot be a folder"):
        UnfinishedRun.begin(tmp_path / "file" / "below", "", {})


def test_an_empty_folder_and_a_link_to_a_run_may_be_named(tmp_path: Path, earlier: Path) -> None:
    (tmp_path / "empty").mkdir()
    make_run(tmp_path / "empty")
    (tmp_path / "link").symlink_to(earlier)
    make_run(tmp_path / "link", b"new", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (earlier / "model.safetensors").read_bytes() == b"new"


def test_what_is_beside_it_is_looked_at_too(tmp_path: Path) -> None:
    fill_foreign(unfinished_path(tmp_path / "out"))
    for overwrite in (False, True):
        with pytest.raises(InvalidFile, match="is in the way, and is no interrupted run"):
            UnfinishedRun.begin(tmp_path / "out", "", {}, overwrite=overwrite)


def test_two_processes_do_not_work_on_one_run(tmp_path: Path) -> None:
    run = UnfinishedRun.begin(tmp_path / "out", "", {})
    code = (
        "from pathlib import Path\nfrom hw_targets.app.run.unfinished import UnfinishedRun\n"
        f"for work in (UnfinishedRun.begin, lambda *_, **__: UnfinishedRun.resume(Path({str(tmp_path / 'out')!r}))):\n"
        f"    try: work(Path({str(tmp_path / 'out')!r}), '', {{}}, overwrite=True)\n"
        "    except ValueError as error: print(error)\n"
    )
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.count("another process works on") == 2
    run.lock.close()
    assert (
        "another process"
        not in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    )
