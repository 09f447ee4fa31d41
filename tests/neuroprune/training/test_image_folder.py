"""Images in folders: torchvision's ImageFolder and transforms as the judge, and the ImageNet recipes end to end."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import datasets, transforms

from hw_targets.app.cli import main
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.stages import measure_synops
from neuroprune import count_synops
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training.data import image_folder as image_folder_module
from neuroprune.training.data.base import DatasetNotFound, training_batches_from
from neuroprune.training.data.image_folder import MEAN, STD, FolderImages, FolderOptions, image_folder
from neuroprune.training.data.images import ImageSet
from neuroprune.training.loop import predictor
from neuroprune.training.recipe import InvalidRecipe, load_recipe

EXAMPLES = Path(__file__).parents[3] / "examples" / "recipes"
RECIPE = """name = "tiny"
[model]
factory = "neuroprune.models.sew_resnet:SmallSEWResNet"
time_steps = 2
arguments = {{ widths = [2, 3], in_channels = 3, classes = 2 }}
[data]
folder = "{folder}"
image_size = 16
workers = 0
[training]
epochs = 1
batch_size = 4
[pruning]
l1 = 0.01
"""


def draw(path: Path, rng: np.random.Generator, mode: str = "RGB") -> None:
    """A random picture that is not square, of a size of its own."""
    width, height = (int(v) for v in rng.integers(64, 257, 2))
    channels = {"RGB": (3,), "RGBA": (4,), "L": ()}[mode]
    coarse = rng.integers(0, 256, (6, 5, *channels), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 pictures of two classes in ImageNet's layout; colour and grey, with and without transparency."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part, each in (("train", 7), ("val", 3)):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for index in range(each):
                mode, suffix = (("RGB", "jpg"), ("L", "jpg"), ("RGBA", "png"))[index % 3]
                draw(root / part / name / f"{index}.{suffix}", rng, mode)
    return root


@pytest.fixture
def copy(pictures: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(pictures, tmp_path / "pictures")
    return tmp_path / "pictures"


def options(folder: Path, **changes: object) -> FolderOptions:
    return FolderOptions(str(folder), **{"image_size": 32, "workers": 0, **changes})  # type: ignore[arg-type]  # any field


# --- against torchvision ----------------------------------------------------------------------------------------------


def torchvisions(folder: Path, size: int, *, train: bool, normalize: bool) -> datasets.ImageFolder:
    """The pipeline of torchvision's ImageNet examples, written with its own classes."""
    cut = (
        [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
        if train
        else [transforms.Resize(round(size * 256 / 224)), transforms.CenterCrop(size)]
    )
    scaled = [transforms.ToTensor()] + ([transforms.Normalize(MEAN, STD)] if normalize else [])
    return datasets.ImageFolder(str(folder), transforms.Compose([*cut, *scaled]))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("size", [224, 48])
def test_evaluation_is_torchvisions(size: int, normalize: bool, pictures: Path) -> None:
    data = image_folder(options(pictures, image_size=size, normalize=normalize)).test
    judge = torchvisions(pictures / "val", size, train=False, normalize=normalize)
    wanted = {path: judge[index] for index, (path, _) in enumerate(judge.samples)}
    assert sorted(wanted) == sorted(path for path, _ in data.files)
    seen = 0
    for images, labels in data.batches(4):
        assert images.dtype == torch.uint8
        for image, label in zip(data.as_input(images), labels, strict=True):
            expected, expected_label = wanted[data.files[seen][0]]
            torch.testing.assert_close(image, expected, rtol=0, atol=1e-6)
            assert label == expected_label
            seen += 1
    assert seen == len(data) == 6
    assert data.in_unit_range is not normalize


@pytest.mark.parametrize("start", [1, 3, 5, 6])
def test_a_run_that_goes_on_reads_none_of_the_images_it_has_seen(
    start: int, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = image_folder(options(pictures, image_size=24)).train
    whole = list(data.training_batches(4, 2, seed=5))
    read, real = list[object](), image_folder_module._Decoder.__getitem__

    def counted(decoder: Any, key: Any) -> Any:
        read.append(key)
        return real(decoder, key)

    monkeypatch.setattr(image_folder_module._Decoder, "__getitem__", counted)
    rest = list(training_batches_from(data, 4, 2, 5, start))
    assert len(rest) == 6 - start
    assert len(read) == 4 * (6 - start)
    for (images, labels), (expected, expected_labels) in zip(rest, whole[start:], strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


def test_augmentation_is_torchvisions_under_each_images_seed(pictures: Path) -> None:
    data = image_folder(options(pictures, image_size=24)).train
    judge = torchvisions(pictures / "train", 24, train=True, normalize=True)
    at = {path: index for index, (path, _) in enumerate(judge.samples)}
    generator = torch.Generator().manual_seed(5)
    batches = data.training_batches(4, 2, seed=5)
    for _ in range(2):
        order = torch.randperm(14, generator=generator).tolist()
        seeds = torch.randint(2**62, (14,), generator=generator).tolist()
        for start in (0, 4, 8):
            images, labels = next(batches)
            for k in range(4):
                torch.manual_seed(seeds[start + k])
                expected, label = judge[at[data.files[order[start + k]][0]]]
                torch.testing.assert_close(data.as_input(images[k : k + 1])[0], expected, rtol=0, atol=1e-6)
                assert labels[k] == label
    assert next(batches, None) is None


def test_imagenets_sizes_are_the_default() -> None:
    """RandomResizedCrop(224), and Resize(256) before CenterCrop(224)."""
    assert FolderOptions("anywhere").image_size == 224
    assert round(224 * 256 / 224) == 256


# --- batches ----------------------------------------------------------------------------------------------------------


def numbered(data: FolderImages, count: int) -> FolderImages:
    """The same files, each labelled with its own number."""
    return FolderImages(
        tuple((path, i) for i, (path, _) in enumerate(data.files[:count])), ("a",) * count, data.options
    )


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["memory", "folder"]),
    count=st.integers(1, 14),
    batch=st.integers(1, 16),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_each_image_at_most_once_an_epoch_and_reproducible(
    pictures: Path, kind: str, count: int, batch: int, epochs: int, seed: int
) -> None:
    if kind == "memory":
        data: ImageSet | FolderImages = ImageSet(
            torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(count)
        )
    else:
        data = numbered(image_folder(options(pictures, image_size=4)).train, count)
    first, again = (list(data.training_batches(batch, epochs, seed)) for _ in range(2))
    per_epoch = count // batch
    assert len(first) == epochs * per_epoch
    for (a, x), (b, y) in zip(first, again, strict=True):
        assert a.shape == (batch, *data.sample_shape)
        assert torch.equal(a, b)
        assert torch.equal(x, y)
    for epoch in range(epochs):
        seen = [int(label) for _, labels in first[epoch * per_epoch : (epoch + 1) * per_epoch] for label in labels]
        assert len(set(seen)) == len(seen) == per_epoch * batch
    assert [int(v) for _, labels in data.batches(batch) for v in labels] == list(range(count))


def test_batches_do_not_depend_on_the_number_of_workers_and_leave_torchs_generator_alone(pictures: Path) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    runs = [
        list(image_folder(options(pictures, image_size=16, workers=workers)).train.training_batches(5, 2, seed=9))
        for workers in (0, 2)
    ]
    assert torch.equal(torch.rand(4), wanted)
    assert len(runs[0]) == 4
    for (a, x), (b, y) in zip(*runs, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(x, y)
    other = next(image_folder(options(pictures, image_size=16)).train.training_batches(5, 2, seed=10))
    assert not torch.equal(runs[0][0][0], other[0])


def test_the_first_images_are_of_all_classes(pictures: Path) -> None:
    data = image_folder(options(pictures)).train
    assert {label for _, label in data.subset(0, 6).files} == {0, 1}
    assert data.pixels(3).shape == (3, 3, 32, 32)
    assert data.pixels(99).shape == (14, 3, 32, 32)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def remove(*parts: str) -> Callable[[Path], object]:
    return lambda root: shutil.rmtree(root.joinpath(*parts))


def empty(root: Path) -> None:
    for file in (root / "train" / "dog").iterdir():
        file.unlink()


def flatten(root: Path) -> None:
    for file in list((root / "val").rglob("*.*")):
        file.rename(root / "val" / f"{file.parent.name}{file.name}")
    for name in ("cat", "dog"):
        (root / "val" / name).rmdir()


LAYOUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (remove(), r"data\.folder: .*pictures is no folder"),
    "no training images": (remove("train"), r"data\.folder: .*train is missing"),
    "no test images": (remove("val"), r"data\.folder: .*val is missing"),
    "a class without images": (empty, r"data\.folder: .*train must hold .* dog\. "),
    "no class folders": (flatten, r"data\.folder: .*val must hold one folder of images per class"),
    "other classes in val": (remove("val", "cat"), r"must hold the same class folders, but cat \(1 in all\)"),
}


@pytest.mark.parametrize(("spoil", "message"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_wrong_layout_is_named(spoil: Callable[[Path], object], message: str, copy: Path) -> None:
    spoil(copy)
    with pytest.raises(DatasetNotFound, match=message):
        image_folder(options(copy))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_broken_image_is_named(content: bytes | None, workers: int, copy: Path) -> None:
    broken = copy / "train" / "cat" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:-400] if content is None else content)
    with pytest.raises(
        DatasetNotFound, match=r"data\.folder: .*cat/0\.jpg cannot be read \(.*replace or remove"
    ) as caught:
        list(image_folder(options(copy, workers=workers)).train.training_batches(2, 1, seed=0))
    assert "\n" not in str(caught.value)


def test_options_out_of_range() -> None:
    with pytest.raises(ValueError, match="image_size must be at least 1"):
        FolderOptions("x", image_size=0)
    with pytest.raises(ValueError, match="workers must be at least 0"):
        FolderOptions("x", workers=-1)


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(copy: Path, tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE.format(folder=copy))
    return tmp_path / "recipe.toml"


def digest(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def test_a_run_on_normalised_images(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run("train", recipe, "--out", out) == 0
    assert "sparsity" in capsys.readouterr().out
    summary = RunFolder.open(out).summary()
    assert 0 <= summary["validation_accuracy"] <= 1
    assert load_recipe(out / "recipe.toml") == load_recipe(recipe)
    assert run("synops", out, "--images", 4) == 0
    assert "blocks.1.conv2" in capsys.readouterr().out
    before = digest(out)
    for command in ("map", "export", "emulate", "verify"):
        assert run(command, out) == 2
        assert "data.normalize = false" in capsys.readouterr().err
    assert digest(out) == before


def test_operations_are_counted_on_what_the_model_was_trained_on(pictures: Path) -> None:
    data = image_folder(options(pictures, image_size=16)).test
    model = SmallSEWResNet((4, 4), in_channels=3).train()
    with torch.no_grad():
        for _ in range(5):
            predictor(model, 2)(model, data.as_input(data.pixels(6)))  # batch-norm learns its statistics
    model.eval()
    counted = measure_synops(model, data, 2)
    wanted = count_synops(model, data.as_input(data.pixels(6)), forward=predictor(model, 2))
    assert counted == wanted
    assert counted.total > 0


def test_a_run_that_reaches_the_chip(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run("train", recipe, "--out", out, "--set", "data.normalize=false") == 0
    assert run("map", out, "--images", 2) == 0
    assert run("export", out) == 0
    assert run("emulate", out) == 0
    assert "accuracy on 6 test images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("data.folder=/none/such", "data.folder: /none/such is no folder"),
        ("data.folder=3", "data.folder has the wrong type"),
        ("data.image_size=0", "data.image_size must be at least 1"),
        ("data.normalize=1", "data.normalize has the wrong type"),
        ("data.workers=-1", "data.workers must be at least 0"),
        ("data.fold=x", "unknown key data.fold"),
        ("model.arguments.classes=1", "has 2 classes"),
        ("model.arguments.in_channels=1", "does not take samples of shape (3, 16, 16)"),
        ("training.warmup_epochs=2", "training.warmup_epochs must lie in 0 … 1"),
        ('training.update="week"', "training.update"),
        ("training.nesterov=1", "training.nesterov has the wrong type"),
        ("training.accumulate=9", "training.batch_size"),
        ("training.epochs", "table.key=value"),
        ("=3", "table.key=value"),
        ("name.first=x", "no table"),
    ],
)
def test_a_mistake_leaves_an_earlier_run_as_it_is(
    change: str, says: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "recipe.toml").write_text("an earlier run")
    assert run("train", recipe, "--out", out, "--overwrite", "--set", change) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert (out / "recipe.toml").read_text() == "an earlier run"
    assert [p.name for p in out.iterdir()] == ["recipe.toml"]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_a_run_leaves_an_earlier_one_as_it_is(
    workers: int, recipe: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run("train", recipe, "--out", out) == 0
    before = digest(out)
    for file in (copy / "train" / "cat").iterdir():
        file.write_bytes(b"no image")
    capsys.readouterr()
    changes = ("--set", f"data.workers={workers}", "--set", "training.lr=0.05")
    assert run("train", recipe, "--out", out, "--overwrite", *changes) == 2
    err = capsys.readouterr().err
    assert "train/cat/" in err
    assert err.count("\n") == 1
    assert digest(out) == before
    assert run("train", recipe, "--out", tmp_path / "new", *changes) == 2
    assert not (tmp_path / "new").exists()


def test_an_unavailable_device(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("warp", "cuda:99"):
        assert run("train", recipe, "--out", tmp_path / "run", "--device", name) == 2
        assert f"--device {name} cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_image_folder_keys_need_a_folder(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('name = "x"\n[model]\nfactory = "a:b"\n[data]\nworkers = 2\n')
    with pytest.raises(InvalidRecipe, match=r"data\.workers is for image folders; set data\.folder, too"):
        load_recipe(tmp_path / "recipe.toml")


# --- the ImageNet recipes ---------------------------------------------------------------------------------------------

IMAGENET = sorted(EXAMPLES.glob("imagenet_*.toml"))


#: Of ResNet-50's 25 million weights, each of which is written several times, six.
NARROW = {"imagenet_resnet50": ("model.arguments.width_per_group=8",)}


def smoke(
    path: Path,
    pictures: Path,
    out: Path,
    size: int,
    epochs: int,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...] = (),
) -> None:
    """An optimizer step each epoch (of four batches, where the recipe accumulates), then everything else."""
    changes = [f"data.folder={pictures}", f"data.image_size={size}", "data.workers=0", "data.train_limit=8"]
    changes += [
        *more,
        "data.test_limit=2",
        f"training.epochs={epochs}",
        "training.warmup_epochs=0",
        "training.batch_size=2",
    ]
    if load_recipe(path).training.accumulate == 1:
        changes += ["data.train_limit=2"]
    else:
        changes += ["training.accumulate=4"]
    assert run("train", path, "--out", out, *(word for c in changes for word in ("--set", c))) == 0
    folder = RunFolder.open(out)
    assert len((out / "metrics.jsonl").read_text().splitlines()) == epochs
    summary = folder.summary()
    weights = [p for p in folder.load_model().parameters() if p.dim() >= 2]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert summary["sparsity"] == pytest.approx(zeros)
    assert zeros > 0
    capsys.readouterr()
    assert run("synops", out, "--images", 1) == 0
    assert "total" in capsys.readouterr().out


@pytest.mark.parametrize("path", IMAGENET, ids=lambda p: p.stem)
def test_an_imagenet_recipe_runs(
    path: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smoke(path, pictures, tmp_path / "run", 32, 1, capsys, NARROW.get(path.stem, ()))


@pytest.mark.slow
@pytest.mark.parametrize("path", IMAGENET, ids=lambda p: p.stem)
def test_an_imagenet_recipe_runs_at_its_full_size(
    path: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smoke(path, pictures, tmp_path / "run", 224, 2, capsys)


@pytest.mark.parametrize("path", IMAGENET, ids=lambda p: p.stem)
def test_an_imagenet_recipe_has_the_published_numbers(path: Path) -> None:
    """The sources are in the recipes' comments."""
    spiking = "sew" in path.stem
    hyper = load_recipe(path).training
    assert hyper.batch_size * hyper.accumulate == 256
    assert (hyper.epochs, hyper.lr, hyper.warmup_epochs) == ((320, 0.1, 0) if spiking else (100, 0.256, 5))
    assert (hyper.momentum, hyper.label_smoothing) == ((0.9, 0.0) if spiking else (0.875, 0.1))
    assert hyper.weight_decay == pytest.approx(0.0 if spiking else 3.0517578125e-5, rel=1e-6)
    assert (hyper.nesterov, hyper.update, hyper.amp) == (False, "epoch", spiking)
