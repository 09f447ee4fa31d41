"""Products that no layer computes: attention of spikes, layers written as functions; against loops over the factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from neuroprune import count_synops

N, K, M = 5, 4, 3


def spikes(*shape: int, seed: int = 0, rate: float = 0.5) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def additions(left: Tensor, right: Tensor) -> int:
    """Each spike of (n, k) adds the entries of its row of (k, m) that are not zero."""
    total = 0
    for row in left:
        for count, entries in zip(row, right, strict=True):
            for entry in entries:
                total += int(count) * (bool(entry != 0))
    return total


class Attention(nn.Module):
    """A layer, and a product of two spike maps, or of anything else."""

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor], *, spiking: bool = True) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(K, K), nn.Linear(M, M)
        self.fire: list[Any] = [neuron.IFNode(0.1), neuron.IFNode(0.1)] if spiking else [nn.Sigmoid(), nn.Sigmoid()]
        self.neurons, self.product = nn.ModuleList(self.fire), product

    def factors(self, xs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.fire[0](self.left(xs[0]) + 0.3), self.fire[1](self.right(xs[1]) + 0.3)

    def forward(self, xs: tuple[Tensor, Tensor]) -> Tensor:
        return self.product(*self.factors(xs))


PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "@": lambda a, b: a @ b,
    "matmul": torch.matmul,
    "mm": torch.mm,
    "bmm": lambda a, b: torch.bmm(a[None], b[None]),
    "einsum": lambda a, b: torch.einsum("nk,km->nm", a, b),
    "einsum of a list": lambda a, b: torch.einsum("nk,km->mn", [a, b]),
    "tensordot": lambda a, b: torch.tensordot(a, b, dims=1),
    "baddbmm": lambda a, b: torch.baddbmm(torch.zeros(1, N, M), a[None], b[None]),
    "addmm": lambda a, b: torch.addmm(torch.zeros(N, M), a, b, alpha=0.25),
    "linear": lambda a, b: F.linear(a, b.T),
    "mv": lambda a, b: torch.stack([torch.mv(a, column) for column in b.unbind(1)], 1),
    "in place": lambda a, b: torch.zeros(N, M).addmm_(a, b),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("scale", [1.0, 0.125])
def test_a_product_of_spikes_adds_where_they_meet(name: str, scale: float) -> None:
    model = Attention(lambda a, b: PRODUCTS[name](a * scale, b))
    xs = (spikes(N, K, seed=1), spikes(K, M, seed=2))
    with torch.no_grad():
        left, right = model.factors(xs)
    for fire in model.fire:
        fire.reset()
    counted = count_synops(model, xs)
    (entry,) = [layer for key, layer in counted.layers.items() if key.startswith("Attention (")]
    assert entry.synops == additions(left, right) > 0
    assert entry.dense == int(left.sum()) * M
    assert (counted.macs, counted.uncounted, entry.kind) == (0, (), "spikes")


def test_sums_of_spikes_are_gated_by_the_binary_factor() -> None:
    """q(kᵀv): q's spikes add the entries of kᵀv that are not zero, however large they are."""
    model = Attention(lambda a, b: a @ (a.T @ (a @ b)))
    xs = (spikes(N, K, seed=1), spikes(K, M, seed=2))
    with torch.no_grad():
        a, b = model.factors(xs)
    for fire in model.fire:
        fire.reset()
    expected = additions(a, b) + additions(a.T, a @ b) + additions(a, a.T @ (a @ b))
    assert count_synops(model, xs).layers["Attention (matmul)"].synops == expected


def test_real_attention_is_multiply_accumulates() -> None:
    model = Attention(torch.matmul, spiking=False)
    counted = count_synops(model, (spikes(N, K), spikes(K, M)))
    assert counted.layers["Attention (matmul)"].kind == "real"
    assert counted.macs == counted.dense_macs == N * K * M


OTHERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mul": lambda a, b: a[:3, :3] * b[:3, :3],
    "einsum": lambda a, b: torch.einsum("nk,km,nm->m", a, b, torch.ones(N, M)),
    "scaled_dot_product_attention": lambda a, _: F.scaled_dot_product_attention(a[None], a[None], a[None]),
    "bilinear": lambda a, b: F.bilinear(a[:4, :3], b, torch.ones(2, 3, 3)),
}


@pytest.mark.parametrize("function", OTHERS)
def test_other_products_of_spikes_are_named(function: str) -> None:
    counted = count_synops(Attention(OTHERS[function]), (spikes(N, K), spikes(K, M)))
    assert counted.uncounted == (f"Attention ({function})",)


class Written(nn.Module):
    """Layers written as functions."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def weights(*shape: int) -> nn.Parameter:
            return nn.Parameter(
                torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.5)
            )

        self.head = nn.Linear(M, 2)
        self.w, self.matrix, self.kernel = weights(6, 5), weights(6, M), weights(2, 3, 2, 2)
        self.up = weights(2, 2, 3, 3)
        self.mask: Tensor
        self.register_buffer("mask", torch.tensor([1.0, 0, 1, 1, 0]))

    def forward(self, x: Tensor) -> Tensor:
        first = (F.linear(x, self.w * self.mask) > 0).float()
        second = (first @ self.matrix > 0).float()
        F.linear(second, self.head.weight)  # tied to a layer that does not run
        grid = F.conv2d(x[:3, :4].reshape(1, 3, 2, 2), self.kernel, padding=1, stride=2)
        F.conv_transpose2d((grid > 0).float(), self.up, stride=2, padding=1)
        return second


def test_layers_that_are_functions_are_counted_by_their_name() -> None:
    model, x = Written(), spikes(4, 5)
    with torch.no_grad():
        first = (x @ (model.w * model.mask).T > 0).float()
        second = (first @ model.matrix > 0).float()
        image = x[:3, :4].reshape(1, 3, 2, 2)
        grid = (F.conv2d(image, model.kernel, padding=1, stride=2) > 0).float()
        ups = F.conv_transpose2d(grid.double(), (model.up != 0).double(), stride=2, padding=1)
        grids = F.conv2d(image.double(), (model.kernel != 0).double(), padding=1, stride=2)
    counted = count_synops(model, x)
    synops = {name: layer.synops for name, layer in counted.layers.items()}
    assert synops == {
        "head": additions(second, model.head.weight.T),
        "Written (linear)": additions(x, (model.w * model.mask).T),
        "Written (matmul)": additions(first, model.matrix),
        "Written (conv2d)": int(grids.sum()),
        "Written (conv_transpose2d)": int(ups.sum()),
    }
    assert min(synops.values()) > 0
    assert (counted.macs, counted.uncounted) == (0, ())


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed_convolutions_equal_a_second_one(axes: int) -> None:
    layer = [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d][axes - 1](2, 4, 3, 2, 1, groups=2, bias=False)
    with torch.no_grad():
        layer.weight *= spikes(*layer.weight.shape)
    x = spikes(3, 2, *[4] * axes)
    used = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][axes - 1](
        x.double(), (layer.weight != 0).double(), None, 2, 1, groups=2
    )
    assert count_synops(nn.Sequential(layer), x).layers["0"].synops == int(used.sum()) > 0


def test_modules_that_are_no_layers_are_named_once() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.rnn, self.attention = nn.Linear(4, 4), nn.LSTM(4, 4), nn.MultiheadAttention(4, 2)
            self.scale = nn.Parameter(torch.ones(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.rnn(self.fc(x))[0]
            out: Tensor = self.attention(x, x, x)[0] * self.scale
            return out

    assert count_synops(Mixed(), spikes(4, 4)).uncounted == ("Mixed", "rnn", "attention")


def test_weights_multiplied_with_weights_are_no_operation() -> None:
    class LowRank(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.idle = (
                nn.Parameter(torch.ones(5, 2)),
                nn.Parameter(torch.ones(2, 4)),
                nn.Linear(1, 1),
            )

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.a @ self.b)

    x = spikes(3, 4)
    counted = count_synops(LowRank(), x)
    assert (counted.total, counted.macs, counted.uncounted) == (5 * int(x.sum()), 0, ())


def test_what_runs_beside_the_model_is_not_the_models() -> None:
    model, teacher = nn.Sequential(nn.Linear(4, 3)), nn.Sequential(nn.Linear(4, 7))
    x = spikes(3, 4)
    counted = count_synops(model, x, forward=lambda m, y: (m(y), teacher(y), y @ y.T))
    assert counted.total == 3 * int(x.sum())
    assert list(counted.layers) == ["0"]


@pytest.mark.parametrize("change", [torch.neg, lambda z: -z, lambda z: z * -1.0, lambda z: -z / 3], ids=range(4))
def test_spikes_with_another_sign_are_spikes(change: Callable[[Tensor], Tensor]) -> None:
    class Inhibiting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fire, self.layer = neuron.IFNode(), nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.layer(change(self.fire(x)))
            return scores

    torch.manual_seed(0)
    model = Inhibiting()
    with torch.no_grad():
        model.layer.weight[0] = 0.0
    x = torch.rand(9, 12) * 1.6
    counted = count_synops(model, x)
    sent = int((x >= 1).sum())
    assert (counted.total, counted.macs, counted.uncounted) == (4 * sent, 0, ())
    assert counted.layers["layer"].kind == "spikes"
    assert sent > 20
