"""One loop for spiking and ordinary networks, on real images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from neuroprune import LATS, SoftThresholdPruner
from neuroprune.backends import backend_of
from neuroprune.data import DatasetNotFound, ImageSet, as_input, fashion_mnist
from neuroprune.models.cnn import SmallCNN
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training import Hyperparameters, accuracy, predictor, train

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
    predict = predictor(model, 4)
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
    spiking = backend_of(SmallSEWResNet((4, 8)))
    assert spiking is not None
    assert spiking.name == "spikingjelly"
    assert backend_of(SmallCNN()) is None


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
