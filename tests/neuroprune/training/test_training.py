"""One loop for spiking and ordinary networks, on real images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F

import neuroprune.training.loop
from neuroprune import LATS, SoftThresholdPruner
from neuroprune.frameworks import framework_of
from neuroprune.models.cnn import SmallCNN
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training.data.base import DatasetNotFound
from neuroprune.training.data.fashion_mnist import fashion_mnist
from neuroprune.training.data.images import ImageSet, as_input
from neuroprune.training.loop import Hyperparameters, accuracy, predictor, train

HYPER = Hyperparameters(epochs=1, batch_size=64, lr=0.1, weight_decay=0.0)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return fashion_mnist().train.subset(0, 6400)


@pytest.mark.parametrize(
    ("build", "lr", "at_least"),
    [
        pytest.param(lambda: SmallCNN((8, 16)), 0.1, 0.7, id="ann"),
        pytest.param(lambda: SmallSEWResNet((8, 16)), 0.5, 0.5, id="snn"),
    ],
)
def test_the_same_loop_trains_and_prunes_an_ordinary_and_a_spiking_network(
    build: Callable[[], nn.Module], lr: float, at_least: float, images: ImageSet
) -> None:
    model, hyper = build(), dataclasses.replace(HYPER, lr=lr)
    optimizer = hyper.optimizer(model)
    steps = hyper.steps(len(images))
    pruner = SoftThresholdPruner(optimizer, LATS(l1=2e-3))
    rows: list[dict[str, float]] = []
    predict = predictor(model, 2)
    train(
        model,
        images,
        optimizer,
        hyper.scheduler(optimizer, steps),
        hyper,
        predict,
        pruner=pruner,
        record=rows.append,
    )
    pruner.finalize()
    assert accuracy(model, fashion_mnist().validation.subset(0, 1000), predict) > at_least
    weights = [p for p in model.parameters() if p.dim() >= 2]
    zeros = sum(int((p == 0).sum()) for p in weights) / sum(p.numel() for p in weights)
    assert zeros == pruner.sparsity() > 0.03
    assert len(rows) == steps == 100
    assert [row["l1"] for row in rows] == pytest.approx([2e-3] * steps)
    assert rows[-1]["threshold"] == pytest.approx(2e-3 * sum(row["lr"] for row in rows))


def test_the_learning_rate_warms_up_linearly_and_ends_near_zero() -> None:
    optimizer = HYPER.optimizer(nn.Linear(2, 2))
    scheduler = HYPER.scheduler(optimizer, 100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.1)
    assert rates[10] == pytest.approx(0.1)
    assert rates[-1] < 1e-4
    assert rates[11:] == sorted(rates[11:], reverse=True)


def test_single_step_and_multi_step_models_predict_the_same(images: ImageSet) -> None:
    multi, single = SmallSEWResNet((4, 8)).eval(), SmallSEWResNet((4, 8), step_mode="s").eval()
    single.load_state_dict(multi.state_dict())
    x = as_input(images.images[:8])
    with torch.no_grad():
        torch.testing.assert_close(predictor(multi, 4)(multi, x), predictor(single, 4)(single, x))


def test_a_diverging_run_stops_with_the_step_and_leaves_no_nan_weights(images: ImageSet) -> None:
    model = SmallCNN((4, 8))
    with torch.no_grad():
        model[-1].bias.fill_(float("inf"))  # type: ignore[operator]  # the last module is a Linear
    optimizer = HYPER.optimizer(model)
    before = model[0].weight.clone()  # type: ignore[operator]  # the first one is a Conv2d
    with pytest.raises(FloatingPointError, match="step 0; lower the learning rate"):
        train(model, images, optimizer, HYPER.scheduler(optimizer, 100), HYPER, predictor(model, 1))
    assert torch.equal(model[0].weight, before)  # type: ignore[arg-type]  # as above


def test_backends_are_recognised_by_the_modules_a_model_holds() -> None:
    spiking = framework_of(SmallSEWResNet((4, 8)))
    assert spiking is not None
    assert spiking.name == "spikingjelly"
    assert framework_of(SmallCNN()) is None


def test_a_missing_or_broken_data_set_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="install the data set anew"):
        fashion_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(DatasetNotFound, match="train-images"):
        fashion_mnist(tmp_path)


def test_fashion_mnist_has_the_published_sizes_and_classes() -> None:
    data = fashion_mnist()
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)
    assert data.test.images.shape == (10_000, 1, 28, 28)
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10


def plain_loop(
    model: nn.Module,
    images: ImageSet,
    hyper: Hyperparameters,
    predict: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> list[float]:
    """The loop as one would write it out: no accumulation, no AMP, images indexed directly."""
    optimizer = hyper.optimizer(model)
    scheduler = hyper.scheduler(optimizer, hyper.epochs * (len(images) // hyper.batch_size))
    pruner = SoftThresholdPruner(optimizer, LATS(l1=2e-3))
    generator, losses = torch.Generator().manual_seed(hyper.seed), []
    for _ in range(hyper.epochs):
        order = torch.randperm(len(images), generator=generator)
        for batch in range(len(images) // hyper.batch_size):
            chosen = order[batch * hyper.batch_size : (batch + 1) * hyper.batch_size]
            loss = F.cross_entropy(predict(model, images.images[chosen].float() / 255.0), images.labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    pruner.finalize()
    return losses


@pytest.mark.parametrize("build", [SmallCNN, lambda: SmallSEWResNet((2, 4))], ids=["ann", "snn"])
def test_training_is_the_plain_loop_bit_for_bit(build: Callable[[], nn.Module], images: ImageSet) -> None:
    hyper = dataclasses.replace(HYPER, epochs=2, batch_size=32, weight_decay=1e-4, seed=4)
    data, rows = images.subset(0, 150), list[dict[str, float]]()
    torch.manual_seed(1)
    ours = build()
    torch.manual_seed(1)
    plain = build()
    predict = predictor(ours, 4)
    losses = plain_loop(plain.train(), data, hyper, predict)
    optimizer = hyper.optimizer(ours)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=2e-3))
    scheduler = hyper.scheduler(optimizer, hyper.steps(150))
    train(ours, data, optimizer, scheduler, hyper, predict, pruner=pruner, record=rows.append)
    pruner.finalize()
    assert [row["loss"] for row in rows] == losses
    assert [row["epoch"] for row in rows] == [0] * 4 + [1] * 4
    for a, b in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def linear_run(
    images: ImageSet, gain: float = 1.0, **changes: Any
) -> tuple[nn.Module, list[dict[str, float]], SoftThresholdPruner]:
    """A pruned linear classifier: no batch-norm, so the size of a forward pass does not matter."""
    hyper = dataclasses.replace(HYPER, **changes)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    rows: list[dict[str, float]] = []
    optimizer = hyper.optimizer(model)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=2e-3))
    scheduler = hyper.scheduler(optimizer, hyper.steps(len(images)))

    def predict(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return gain * network(x)  # type: ignore[no-any-return]  # a module's call has no type

    train(model, images, optimizer, scheduler, hyper, predict, pruner=pruner, record=rows.append)
    return model, rows, pruner


def test_accumulated_batches_are_one_large_batch(images: ImageSet) -> None:
    data = images.subset(0, 330)
    whole, rows, _ = linear_run(data, batch_size=64)
    parts, accumulated, _ = linear_run(data, batch_size=16, accumulate=4)
    assert len(accumulated) == len(rows) == 5
    assert [r["loss"] for r in accumulated] == pytest.approx([r["loss"] for r in rows], rel=1e-5)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_mixed_precision_stays_near_full_precision(images: ImageSet) -> None:
    data = images.subset(0, 640)
    _, full, _ = linear_run(data)
    model, mixed, _ = linear_run(data, amp=True)
    assert [r["loss"] for r in mixed] == pytest.approx([r["loss"] for r in full], rel=0.02)
    assert [r["loss"] for r in mixed] != [r["loss"] for r in full]
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_step_skipped_for_overflow_moves_neither_threshold_nor_learning_rate(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large float32 gradients times 2¹²⁷ overflow until the scaler has come down."""
    scaler = GradScaler("cpu", init_scale=2.0**127, growth_interval=10_000)
    monkeypatch.setattr(neuroprune.training.loop, "_grad_scaler", lambda *_: scaler)
    _, rows, pruner = linear_run(images.subset(0, 640), gain=512.0, lr=1e-6, amp=True, warmup_fraction=1.0)
    skipped = [row["skipped"] for row in rows]
    count = int(sum(skipped))
    assert 0 < count < 9
    assert skipped == [1] * count + [0] * (10 - count)
    assert [row["threshold"] for row in rows[:count]] == [0.0] * count
    assert {row["lr"] for row in rows[: count + 1]} == {rows[0]["lr"]}
    assert rows[count + 1]["lr"] > rows[count]["lr"]
    taken = [row["lr"] for row in rows[count:]]
    assert pruner.threshold == pytest.approx(2e-3 * sum(taken))


def rates(hyper: Hyperparameters, steps: int) -> list[float]:
    optimizer = hyper.optimizer(nn.Linear(2, 2))
    scheduler, found = hyper.scheduler(optimizer, steps), []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(("epochs", "warmup"), [(7, 0), (7, 1), (10, 4), (3, 3), (100, 5)])
def test_the_learning_rate_by_epoch_is_torchs(epochs: int, warmup: int) -> None:
    """LinearLR from 1/W, which reaches the peak in epoch W − 1, then CosineAnnealingLR, both stepped once an epoch."""
    hyper = dataclasses.replace(HYPER, epochs=epochs, warmup_epochs=warmup, update="epoch", lr=0.256)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.256)
    parts: list[torch.optim.lr_scheduler.LRScheduler] = []
    if warmup:
        parts.append(torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=max(1, warmup - 1)))
    if warmup < epochs:
        parts.append(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs - warmup))
    judge = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[warmup] if len(parts) > 1 else [])
    expected = []
    for _ in range(epochs):
        expected += [float(optimizer.param_groups[0]["lr"])] * 3
        optimizer.step()
        judge.step()
    assert rates(hyper, 3 * epochs) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_warmup_epochs_are_a_fraction_of_the_run() -> None:
    fraction = dataclasses.replace(HYPER, epochs=20, warmup_fraction=0.25)
    whole = dataclasses.replace(HYPER, epochs=20, warmup_epochs=5, warmup_fraction=0.9)
    assert rates(whole, 200) == rates(fraction, 200)


def test_what_decays_and_how_momentum_works() -> None:
    model = SmallCNN((2, 2))
    usual = dataclasses.replace(HYPER, weight_decay=0.5).optimizer(model).param_groups
    assert [(g["weight_decay"], g["nesterov"], g.get("prune", True)) for g in usual] == [
        (0.5, True, True),
        (0.0, True, False),
    ]
    changed = dataclasses.replace(HYPER, weight_decay=0.5, decay_all=True, nesterov=False).optimizer(model).param_groups
    assert [(g["weight_decay"], g["nesterov"]) for g in changed] == [(0.5, False), (0.5, False)]


@pytest.mark.gpu
def test_float16_with_scaled_gradients_trains_on_a_gpu(images: ImageSet) -> None:
    hyper = dataclasses.replace(HYPER, amp=True)
    model = SmallSEWResNet((8, 16)).cuda()
    optimizer = hyper.optimizer(model)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=2e-3))
    rows: list[dict[str, float]] = []
    scheduler = hyper.scheduler(optimizer, hyper.steps(len(images)))
    train(model, images, optimizer, scheduler, hyper, predictor(model, 4), pruner=pruner, record=rows.append)
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert pruner.threshold == pytest.approx(2e-3 * sum(row["lr"] for row in rows if not row["skipped"]))
