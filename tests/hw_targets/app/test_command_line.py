"""How commands speak: as JSON, quietly, to a shell that completes; and without what draws their help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from hw_targets.app.cli import main
from hw_targets.app.cli.commands import parse
from tests.builders.tiny_run import digests, train, write_recipe

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spiking run of a second."""
    folder = tmp_path_factory.mktemp("spoken")
    assert train(write_recipe(folder, "spiking"), folder / "run") == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["synops", "RUN"], {"images", "total", "layers"}),
        (["fit", "RUN"], {"chip", "fits", "layers", "not_enforced"}),
        (["map", "RUN", "--images", "2", "--overwrite"], {"cores", "energy_j", "populations", "written"}),
        (["export", "RUN", "--overwrite"], {"format", "written"}),
        (["emulate", "RUN"], {"images", "model_accuracy", "chip_accuracy"}),
        (["report", "RUN", "--overwrite"], {"written"}),
        (["train", "--out", "RUN", "--resume"], {"out", "validation_accuracy", "sparsity", "layers"}),
        (["chips"], {"chips"}),
        (["chips", "loihi1"], {"chip", "facts", "unknown"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_json_is_one_object_and_nothing_else(
    arguments: list[str], keys: set[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(run) if a == "RUN" else a for a in arguments]
    capsys.readouterr()
    assert main([*given, "--json"]) == 0
    spoken = capsys.readouterr()
    assert keys <= set(json.loads(spoken.out))
    assert main([*given, "--json", "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert json.loads(quiet.out) == json.loads(spoken.out)
    assert quiet.err == ""


def test_json_says_what_the_words_say(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["map", str(run), "--images", "2", "--overwrite"]) == 0
    words = capsys.readouterr().out
    assert main(["map", str(run), "--images", "2", "--overwrite", "--json"]) == 0
    spoken = capsys.readouterr()
    values = json.loads(spoken.out)
    assert f"{values['cores']} cores (at least {values['lower_bound']})" in words
    for name, population in values["populations"].items():
        assert any(line.split() == [name, *map(str, population.values())] for line in words.splitlines())
    notes = [line for line in words.splitlines() if line.startswith("note: ")]
    assert notes
    assert spoken.err.splitlines()[-len(notes) :] == notes


def test_a_network_that_does_not_fit_is_an_error_and_a_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = ROOT / "examples" / "recipes" / "fashion_mnist_wide.toml"
    assert main(["fit", str(recipe), "--chip", "loihi1", "--json"]) == 2
    spoken = capsys.readouterr()
    found = json.loads(spoken.out)
    assert found["fits"] is False
    assert [layer["name"] for layer in found["layers"] if layer["excess"]]
    assert spoken.err.splitlines()[-1].startswith("neuroprune: error: ")


def test_parsing_runs_nothing(run: Path) -> None:
    before = digests(run)
    call = parse(["report", str(run), "--overwrite"])
    assert digests(run) == before
    assert callable(call)


def test_a_chip_of_ones_own_is_called_what_its_file_calls_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "my.toml"
    own.write_bytes(resources.files("hw_targets.targets.loihi").joinpath("facts", "loihi1.toml").read_bytes())
    for command in (["fit", str(run)], ["map", str(run), "--overwrite"], ["emulate", str(run)]):
        capsys.readouterr()
        assert main([*command, "--chip", str(own), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["chip"] == "loihi1"
    assert main(["emulate", str(run), "--chip", str(own)]) == 0
    assert "in loihi1 integers" in capsys.readouterr().out


def test_a_netx_file_is_for_chips_that_take_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--overwrite"]) == 0
    for command in ("map", "verify"):
        for chip, said in (("speck", "speck takes npz, nir; name one of"), ("loihi9", "unknown chip 'loihi9'")):
            capsys.readouterr()
            assert main([command, str(run / "model.net"), "--chip", chip]) == 2
            assert said in capsys.readouterr().err
    assert main(["export", str(run), "--format", "json", "--overwrite"]) == 2
    assert "take netx, sanafe, nir" in capsys.readouterr().err


def test_a_folder_without_a_name_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for path in (".", "/"):
        assert main(["map", path]) == 2
        assert "is no run folder: it lacks recipe.toml" in capsys.readouterr().err
    (tmp_path / "run.unfinished").mkdir()
    assert main(["map", "."]) == 2
    assert "the run that becomes it was interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["map", "--help"], ["chips"], ["chips", "--json"]])
def test_a_reader_that_has_seen_enough_ends_nothing(arguments: list[str]) -> None:
    """`neuroprune chips | true`: whoever reads is gone before a word is written."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "neuroprune", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_what_cannot_be_written_is_an_error() -> None:
    command = [sys.executable, "-m", "neuroprune", "chips"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("neuroprune: error: what it says cannot be written: No space left")
    assert done.stderr.count("\n") == 1


def test_quiet_keeps_the_result(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["map", str(run), "--images", "2", "--overwrite", "--quiet"]) == 0
    spoken = capsys.readouterr()
    assert "note:" not in spoken.out + spoken.err
    assert "written to" in spoken.out


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("neuroprune em", {"emulate"}),
        ("neuroprune map run --chip lo", {"loihi1", "loihi2"}),
        ("neuroprune fi", {"fit"}),
    ],
)
def test_bash_completes(typed: str, wanted: set[str]) -> None:
    words = typed.split()
    environment = {**os.environ, "_NEUROPRUNE_COMPLETE": "complete_bash"}
    environment |= {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, "-m", "neuroprune"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert set(done.stdout.split()) == wanted


def test_the_package_is_a_command_too() -> None:
    command = [sys.executable, "-m", "neuroprune", "chips", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "loihi1" in json.loads(done.stdout)["chips"]


def test_without_typer_its_install_line_is_the_error() -> None:
    code = "import sys; sys.modules['typer'] = None\nfrom hw_targets.app.cli import main\nsys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install 'neuroprune[cli]'" in line
