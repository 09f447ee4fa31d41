"""Mistakes a user makes at the command line: status 2, one line that says what to do, and no file harmed."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import neuroprune.training.data.fashion_mnist
from hw_targets.app.cli import main
from neuroprune.models.sew_resnet import SmallSEWResNet

COMMANDS = ("demo", "train", "synops", "fit", "map", "export", "emulate", "verify", "report", "chips")
RECIPE = """name = "tiny"
[model]
factory = "neuroprune.models.sew_resnet:SmallSEWResNet"
time_steps = 2
[model.arguments]
widths = [2]
[data]
train_limit = 64
test_limit = 4
[training]
epochs = 1
batch_size = 32
[pruning]
schedule = "LATS"
final_threshold = 0.01
"""


def write_idx(path: Path, values: Any) -> None:
    values = np.asarray(values, np.uint8)
    header = struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), 1))


@pytest.fixture(scope="session")
def images_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in Fashion-MNIST's format: 5 100 training and 8 test images, mostly dark."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 5100), ("t10k", 8)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 9:19, 9:19] = rng.integers(0, 256, (count, 10, 10))
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", rng.integers(0, 10, count))
    return folder


@pytest.fixture(autouse=True)
def _small_data(images_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuroprune.training.data.fashion_mnist, "DEBIAN_FOLDER", images_folder)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """What `neuroprune train` leaves behind, without the training."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE)
    torch.manual_seed(0)
    save_file(SmallSEWResNet([2]).state_dict(), str(folder / "model.safetensors"))
    (folder / "summary.json").write_text("{}\n")
    (folder / "metrics.jsonl").write_text("")
    return folder


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its content."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail for a user's reason; returns its one line. No file may change or appear."""

    def run(*arguments: object, may_appear: tuple[str, ...] = ()) -> str:
        before = snapshot(tmp_path)
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        err = capsys.readouterr().err
        assert status == 2, err
        assert err.startswith("neuroprune: error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1, f"more than one line:\n{err}"
        assert len(err) > len("neuroprune: error: ") + 10
        after = snapshot(tmp_path)
        assert {k: v for k, v in after.items() if not k.startswith(may_appear or ("\0",))} == before
        return err

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    assert f"Usage: neuroprune {command}" in out
    assert len(out.splitlines()) > 4


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n│ {command} " in out


def test_the_fixtures_themselves_are_good(
    run_folder: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the refusals below would prove nothing."""
    assert main(["fit", str(recipe)]) == 0
    assert main(["map", str(run_folder), "--images", "2"]) == 0
    assert main(["export", str(run_folder)]) == 0
    assert main(["export", str(run_folder), "--format", "nir"]) == 0
    assert main(["emulate", str(run_folder)]) == 0
    assert main(["synops", str(run_folder), "--images", "2"]) == 0
    assert main(["train", str(recipe), "--out", str(tmp_path / "new")]) == 0
    assert main(["chips"]) == 0
    assert main(["chips", "loihi1"]) == 0
    capsys.readouterr()
    assert {"placement.npz", "model.net", "model.nir"} <= {p.name for p in run_folder.iterdir()}
    assert {"recipe.toml", "model.safetensors", "metrics.jsonl", "summary.json"} <= {
        p.name for p in (tmp_path / "new").iterdir()
    }


# --- chips ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["map", "export", "emulate"])
def test_an_unknown_chip(command: str, run_folder: Path, refused: Callable[..., str]) -> None:
    assert "unknown chip 'loihi9'" in refused(command, run_folder, "--chip", "loihi9")


def test_an_unknown_chip_without_a_run(recipe: Path, refused: Callable[..., str]) -> None:
    message = refused("chips", "loihi9")
    assert "loihi1, loihi2" in message
    assert "unknown chip 'loihi9'" in refused("fit", recipe, "--chip", "loihi9")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("name = ", "not TOML"),
        ('name = "x"', "facts"),
        ('name = "x"\n[facts]\ncores_per_chip = 3', "facts"),
        ('name = "x"\nspeed = 4\n[facts]', "unknown key speed"),
        ("\x00\x01", "TOML"),
    ],
)
def test_a_broken_chip_file(content: str, says: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    path = tmp_path / "my.toml"
    path.write_text(content)
    assert says in refused("chips", path)


def test_a_missing_chip_file(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "cannot be read" in refused("chips", tmp_path / "my.toml")


# --- run folders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["synops", "map", "export", "emulate", "report", "fit"])
def test_a_missing_run_folder(command: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "nowhere" in refused(command, tmp_path / "nowhere")


@pytest.mark.parametrize("command", ["synops", "map", "export", "emulate"])
@pytest.mark.parametrize("missing", ["recipe.toml", "model.safetensors"])
def test_a_run_folder_that_lacks_a_file(
    command: str, missing: str, run_folder: Path, refused: Callable[..., str]
) -> None:
    (run_folder / missing).unlink()
    message = refused(command, run_folder)
    assert missing in message
    assert "neuroprune train" in message


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\xff" * 100])
def test_broken_weights(content: bytes, run_folder: Path, refused: Callable[..., str]) -> None:
    (run_folder / "model.safetensors").write_bytes(content)
    assert "model.safetensors" in refused("emulate", run_folder)


def test_weights_of_another_model(run_folder: Path, refused: Callable[..., str]) -> None:
    """Torch lists every key on a line of its own; the user gets one sentence."""
    save_file(SmallSEWResNet([3, 4]).state_dict(), str(run_folder / "model.safetensors"))
    assert "does not hold the weights" in refused("emulate", run_folder)


def test_weights_that_are_no_numbers(run_folder: Path, refused: Callable[..., str]) -> None:
    state = SmallSEWResNet([2]).state_dict()
    state["conv1.weight"][0] = float("nan")
    save_file(state, str(run_folder / "model.safetensors"))
    assert "NaN" in refused("export", run_folder)


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl"])
def test_a_broken_summary(name: str, run_folder: Path, refused: Callable[..., str]) -> None:
    (run_folder / name).write_text('{"name": ')
    assert name in refused("report", run_folder)


@pytest.mark.parametrize(
    ("command", "name"), [(("map",), "placement.npz"), (("export",), "model.net"), (("report",), "report.html"),
                          (("export", "--format", "nir"), "model.nir")]
)  # fmt: skip
def test_an_existing_file(command: tuple[str, ...], name: str, run_folder: Path, refused: Callable[..., str]) -> None:
    (run_folder / name).write_bytes(b"somebody's work")
    (run_folder / "model.safetensors").write_bytes(b"not read: what may not be written is said before any work")
    message = refused(command[0], run_folder, *command[1:])
    assert name in message
    assert "overwrite" in message


@pytest.mark.parametrize("command", ["map", "export"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_output_paths_that_are_no_file(
    command: str, overwrite: bool, run_folder: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    extra = ("--overwrite",) if overwrite else ()
    (tmp_path / "folder").mkdir()
    assert "nowhere" in refused(command, run_folder, "--out", tmp_path / "nowhere" / "x.net", *extra)
    assert "folder" in refused(command, run_folder, "--out", tmp_path / "folder", *extra)


def test_a_new_model_takes_no_results_of_an_old_one(recipe: Path, run_folder: Path) -> None:
    old = {
        "summary.json": '{"lava_spike_differences": 0}',
        "model.net": "old",
        "report.html": "old",
        "notes.txt": "mine",
    }
    for name, text in old.items():
        (run_folder / name).write_text(text)
    assert main(["train", str(recipe), "--out", str(run_folder), "--overwrite"]) == 0
    assert "lava_spike_differences" not in (run_folder / "summary.json").read_text()
    assert sorted(p.name for p in run_folder.iterdir()) == [
        "hashes.json", "metrics.jsonl", "model.safetensors", "notes.txt", "recipe.toml", "summary.json",
    ]  # fmt: skip


def test_an_existing_output_folder(recipe: Path, run_folder: Path, refused: Callable[..., str]) -> None:
    message = refused("train", recipe, "--out", run_folder)
    assert "exists already" in message
    assert "--overwrite" in message
    assert "exists already" in refused("demo", "--out", run_folder)


def test_an_output_folder_that_is_a_file(recipe: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "file").write_bytes(b"somebody's work")
    refused("train", recipe, "--out", tmp_path / "file")
    refused("train", recipe, "--out", tmp_path / "file", "--overwrite")
    refused("train", recipe, "--out", tmp_path / "file" / "below")
    assert (tmp_path / "file").read_bytes() == b"somebody's work"


def test_a_link_to_nothing_is_named_once(recipe: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    message = refused("train", recipe, "--out", tmp_path / "link")
    assert message.count("choose another folder with --out") == 1


def test_a_device_without_numbers(recipe: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "--device meta cannot be used" in refused("train", recipe, "--out", tmp_path / "new", "--device", "meta")


@pytest.mark.parametrize("place", ["file", "file/below", "loop"])
def test_event_files_below_what_is_no_folder(
    place: str, recipe: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "file").write_bytes(b"somebody's work")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    message = refused("train", recipe, "--out", tmp_path / "new", "--tensorboard", tmp_path / place)
    assert f"{tmp_path / place}" in message
    assert "--tensorboard" in message


# --- recipes ----------------------------------------------------------------------------------------------------------

LATS = 'schedule = "LATS"\nfinal_threshold = 0.01'
BROKEN: dict[str, tuple[str, str, str]] = {
    "bad TOML": ('name = "tiny"', 'name = "tiny', "TOML"),
    "unknown table": ("[training]", "[traning]", "traning"),
    "unknown key": ("epochs = 1", "epoch = 1", "training.epoch"),
    "text for a number": ("epochs = 1", 'epochs = "1"', "training.epochs"),
    "real for an integer": ("batch_size = 32", "batch_size = 32.5", "training.batch_size"),
    "truth for a number": ("epochs = 1", "epochs = true", "training.epochs"),
    "number for a name": ('name = "tiny"', "name = 3", "name"),
    "no name": ('name = "tiny"', "", "name"),
    "number for a factory": ('factory = "neuroprune.models.sew_resnet:SmallSEWResNet"', "factory = 3", "model.factory"),
    "no such module": ("sew_resnet:Small", "sew_resnot:Small", "sew_resnot"),
    "no such class": (":SmallSEWResNet", ":LargeSEWResNet", "LargeSEWResNet"),
    "no class at all": (":SmallSEWResNet", "", "model.factory"),
    "not a model": ("neuroprune.models.sew_resnet:SmallSEWResNet", "math:sqrt", "model.factory"),
    "unknown argument": ("widths = [2]", "depth = 2", "depth"),
    "argument of the wrong type": ("widths = [2]", 'widths = "wide"', "model.factory"),
    "empty argument": ("widths = [2]", "widths = []", "model.factory"),
    "negative argument": ("widths = [2]", "widths = [-2]", "model.factory"),
    "unknown choice": ("widths = [2]", 'widths = [2]\nneuron_type = "ALIF"', "ALIF"),
    "unknown schedule": ('schedule = "LATS"', 'schedule = "LOTS"', "LOTS"),
    "number for a schedule": ('schedule = "LATS"', "schedule = 3", "pruning.schedule"),
    "unknown schedule argument": ("final_threshold", "last_threshold", "last_threshold"),
    "text for a threshold": ("final_threshold = 0.01", 'final_threshold = "0.01"', "pruning.final_threshold"),
    "negative threshold": ("final_threshold = 0.01", "final_threshold = -1", "final_threshold"),
    "no time": ("time_steps = 2", "time_steps = 0", "time_steps"),
    "no batches": ("batch_size = 32", "batch_size = 0", "batch_size"),
    "batches larger than the data": ("batch_size = 32", "batch_size = 100000", "batch_size"),
    "negative limit": ("train_limit = 64", "train_limit = -64", "train_limit"),
    "no test images": ("test_limit = 4", "test_limit = -4", "test_limit"),
    "negative learning rate": ("epochs = 1", "epochs = 1\nlr = -0.1", "lr"),
    "a learning rate that is no number": ("epochs = 1", "epochs = 1\nlr = nan", "lr"),
    "a learning rate beyond single precision": ("epochs = 1", "epochs = 1\nlr = 1e300", "training.lr"),
    "momentum beyond single precision": ("epochs = 1", "epochs = 1\nmomentum = 1e39", "training.momentum"),
    "decay beyond single precision": ("epochs = 1", "epochs = 1\nweight_decay = 1e300", "training.weight_decay"),
    "a threshold beyond single precision": ("final_threshold = 0.01", "final_threshold = 1e300", "gives the threshold"),
    "a constant one": (LATS, 'schedule = "ConstantThreshold"\nthreshold = 1e39', "gives the threshold 1e+39"),
    "thresholds that run away": (LATS, 'schedule = "STR"\nweight_decay = 1e308', "gives the threshold nan at step 1"),
    "a plan for fewer steps": (LATS, 'schedule = "SparsityRamp"\ntarget_sparsity = 0.5\nsteps = 1', "pruning.steps"),
}


@pytest.mark.parametrize(("before", "after", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_recipe(
    before: str, after: str, says: str, recipe: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert before in RECIPE
    recipe.write_text(RECIPE.replace(before, after))
    message = refused("train", recipe, "--out", tmp_path / "new", may_appear=("new/",))
    assert says in message


def test_a_recipe_that_cannot_be_pruned_leaves_no_folder_behind(
    recipe: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """Otherwise the corrected recipe is refused, too, because "the folder exists already"."""
    recipe.write_text(RECIPE.replace('"LATS"', '"LOTS"'))
    refused("train", recipe, "--out", tmp_path / "new", may_appear=("new/",))
    assert not (tmp_path / "new").exists() or not any((tmp_path / "new").iterdir())


@pytest.mark.parametrize("command", ["train", "fit"])
def test_a_recipe_that_is_missing_or_no_text(command: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    extra = ("--out", tmp_path / "new") if command == "train" else ()
    assert "none.toml" in refused(command, tmp_path / "none.toml", *extra)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "binary.toml" in refused(command, tmp_path / "binary.toml", *extra)


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "fit", "demo"])
def test_a_missing_data_set(
    command: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    import torchvision.datasets

    def no_network(*_: object, **__: object) -> None:
        raise RuntimeError("no route to host\nand a second line")

    monkeypatch.setattr(neuroprune.training.data.fashion_mnist, "DEBIAN_FOLDER", tmp_path / "absent")
    monkeypatch.setattr(neuroprune.training.data.fashion_mnist, "CACHE_FOLDER", tmp_path / "cache")
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", no_network)
    arguments: dict[str, tuple[object, ...]] = {
        "train": (recipe, "--out", tmp_path / "new"), "fit": (recipe,), "demo": ("--out", tmp_path / "new"),
    }  # fmt: skip
    message = refused(command, *arguments[command], may_appear=("new/",))
    assert "apt-get install dataset-fashion-mnist" in message


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"no gzip at all",
        gzip.compress(b""),
        gzip.compress(b"\x00\x00\x08"),
        gzip.compress(struct.pack(">4I", 0x0803, 9, 28, 28) + bytes(5)),
        gzip.compress(struct.pack(">4I", 0x0801, 9, 28, 28)),
        gzip.compress(bytes(range(256)) * 40)[:200],
        gzip.compress(bytes(1000))[:12] + b"\xff\xff\xff\xff" + gzip.compress(bytes(1000))[16:],
    ],
    ids=["absent", "empty", "no gzip", "empty gzip", "short", "truncated", "other kind", "cut", "corrupt"],
)
def test_a_damaged_data_set(
    content: bytes | None, recipe: Path, images_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
) -> None:  # fmt: skip
    folder = tmp_path / "data"
    folder.mkdir()
    name = "t10k-images-idx3-ubyte.gz"
    for path in images_folder.iterdir():
        if path.name != name:
            (folder / path.name).symlink_to(path)
    if content is not None:
        (folder / name).write_bytes(content)
    monkeypatch.setattr(neuroprune.training.data.fashion_mnist, "DEBIAN_FOLDER", folder)
    assert name in refused("fit", recipe)


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("fly",), ("train",), ("map",), ("map", "run", "--images", "0"), ("map", "run", "--images", "many"),
        ("export", "run", "--format", "pdf"), ("demo", "--size", "huge"), ("chips", "loihi1", "loihi2"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_arguments_the_parser_refuses(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    assert done.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("neuroprune: error: ")
    assert line.endswith(" --help"), "a hint"


def test_an_interruption_is_no_error_of_the_users(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hw_targets.app.cli.deployment.load_data", stop)
    assert main(["fit", str(recipe)]) == 130
    assert capsys.readouterr().err == "neuroprune: interrupted\n"
