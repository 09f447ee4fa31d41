"""A result is written whole or not at all, and never in the place of what is no result."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hw_targets.errors import InvalidFile
from hw_targets.files.atomic import check_free, new_file, new_files, write_new
from hw_targets.targets.loihi.netx.reader import read_netx
from tests.builders.media import fill, largest_file, make_read_only, tmpfs

OLD, NEW = b"somebody's work", b"new" * 10_000


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_circle(path: Path) -> None:
    path.symlink_to(path.name)


def make_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/null")


OBSTACLES: dict[str, Callable[[Path], None]] = {
    "is a pipe": make_pipe,
    "is a socket": make_socket,
    "is a link to nowhere, where nothing is": make_dangling_link,
    "is a link to result, where nothing is": make_circle,
    "is a device": make_link_to_a_device,
    "is a folder": Path.mkdir,
}


@pytest.mark.parametrize(("says", "make"), OBSTACLES.items(), ids=OBSTACLES)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_file_is_never_replaced(
    says: str, make: Callable[[Path], None], overwrite: bool, tmp_path: Path
) -> None:
    path = tmp_path / "result"
    make(path)
    before = os.lstat(path)
    with pytest.raises(InvalidFile, match=says):
        write_new(path, NEW, overwrite=overwrite)
    after = os.lstat(path)
    assert (after.st_mode, after.st_ino, after.st_mtime_ns) == (before.st_mode, before.st_ino, before.st_mtime_ns)
    assert [p.name for p in tmp_path.iterdir()] == ["result"]


@pytest.mark.parametrize("given", [None, 1, b"x", ["x"]])
def test_what_is_no_path_is_refused(given: Any) -> None:
    for call in (check_free, read_netx):
        with pytest.raises(InvalidFile, match=f"a path was expected, got a {type(given).__name__}"):
            call(given)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_real_device_is_never_replaced(overwrite: bool) -> None:
    with pytest.raises(InvalidFile, match="/dev/null is a device"):
        write_new("/dev/null", NEW, overwrite=overwrite)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux's /proc is a folder that takes no new names")
def test_a_folder_that_takes_no_new_names() -> None:
    with pytest.raises(InvalidFile, match="/proc takes no new files; choose another folder"):
        write_new("/proc/new", b"new")


def test_a_link_to_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real", tmp_path / "link"
    real.write_bytes(OLD)
    link.symlink_to("elsewhere/real")
    with pytest.raises(InvalidFile, match="exists already"):
        write_new(link, NEW)
    assert real.read_bytes() == OLD
    write_new(link, NEW, overwrite=True)
    assert link.is_symlink()
    assert real.read_bytes() == NEW


@pytest.mark.parametrize("length", [200, 240, 255])
def test_names_may_be_as_long_as_the_folder_takes(length: int, tmp_path: Path) -> None:
    write_new(tmp_path / ("x" * length), NEW)
    assert (tmp_path / ("x" * length)).read_bytes() == NEW


@pytest.mark.parametrize("name", ["x" * 256, "ü" * 200, "x\0y", "/".join(["y" * 200] * 30)])
def test_names_that_no_folder_takes(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="give the name of a file"):
        write_new(tmp_path / name, NEW)


@pytest.mark.parametrize("existed", [False, True])
def test_a_file_that_is_limited_in_size_is_not_half_written(existed: bool, tmp_path: Path) -> None:
    path = tmp_path / "result"
    if existed:
        path.write_bytes(OLD)
    with largest_file(9999), pytest.raises(InvalidFile, match=f"{path} cannot be written: File too large; make room"):
        write_new(path, NEW, overwrite=True)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([OLD] if existed else [])


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "64k") as disk:
        (disk / "result").write_bytes(OLD)
        fill(disk, leave=8192)
        with pytest.raises(InvalidFile, match="No space left on device"):
            write_new(disk / "result", NEW, overwrite=True)
        assert (disk / "result").read_bytes() == OLD
        assert {p.name for p in disk.iterdir()} == {"result", "filler"}
        (disk / "filler").unlink()
        write_new(disk / "result", NEW, overwrite=True)
        assert (disk / "result").read_bytes() == NEW


def test_a_read_only_folder_is_noticed_before_the_work(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "64k") as disk:
        (disk / "result").write_bytes(OLD)
        make_read_only(disk)
        for name in ("result", "new"):
            with pytest.raises(InvalidFile, match="cannot be written to; choose another folder"):
                check_free(disk / name, overwrite=True)
        assert (disk / "result").read_bytes() == OLD


@pytest.mark.parametrize("broken", ["first", "second", "third"])
def test_files_that_belong_together_are_replaced_together(broken: str, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("first", "second", "third")]
    for path in paths:
        path.write_bytes(OLD)

    def write(sizes: dict[str, bytes]) -> None:
        with new_files(paths, overwrite=True) as to:
            for path, temporary in zip(paths, to, strict=True):
                temporary.write_bytes(sizes.get(path.name, b"short"))

    with largest_file(9999), pytest.raises(InvalidFile, match="File too large"):
        write({broken: NEW})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == dict.fromkeys(("first", "second", "third"), OLD)
    write(dict.fromkeys(("first", "second", "third"), NEW))
    assert [p.read_bytes() for p in sorted(tmp_path.iterdir())] == [NEW] * 3


def test_the_seal_of_several_files_goes_first_and_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, seen, replace = [tmp_path / name for name in ("a", "b", "seal")], [], os.replace
    for path in paths:
        path.write_bytes(OLD)

    def watched(source: Path, target: Path) -> None:
        seen.append((target.name, paths[-1].exists()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    with new_files(paths, overwrite=True):
        pass
    assert seen == [("a", False), ("b", False), ("seal", False)]


def test_an_error_of_somebody_elses_passes_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_file(tmp_path / "result"):
        (tmp_path / "nothing").read_bytes()
    with pytest.raises(PermissionError), new_file(tmp_path / "result"):
        raise PermissionError(13, "Permission denied", "/elsewhere/data")
    assert not any(tmp_path.iterdir())


def test_a_result_is_as_readable_as_other_files(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(NEW)
    write_new(tmp_path / "result", NEW)
    assert (tmp_path / "result").stat().st_mode == (tmp_path / "other").stat().st_mode
