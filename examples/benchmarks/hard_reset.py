"""snnTorch's tutorial 5 on a chip that resets to zero: four ways to get there, trained and pruned alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import snntorch as snn
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hw_targets
import neuroprune
from examples.benchmarks.common import Report, Result, one_thread, summarize
from neuroprune.training.data.fashion_mnist import fashion_mnist
from neuroprune.training.data.images import ImageSet
from neuroprune.training.progress import progress_bar

CHIP, TIME_STEPS, HIDDEN, SPARSITY, SEEDS = "loihi1", 8, 256, 0.9, 3
STEPS, BATCH, TEST_IMAGES = 400, 100, 2000
METHOD = (
    f"Fashion-MNIST, images shown for T = {TIME_STEPS} steps; tutorial 5's network with {HIDDEN} hidden neurons, Leaky"
    f" of beta 0.95, Adam (1e-3), {STEPS} batches of {BATCH}, {100 * SPARSITY:g} % zeros by prune_to,"
    f" {SEEDS} seeds, the same for all; accuracy of {TEST_IMAGES} test images in torch and in {CHIP}'s integers, not"
    " calibrated, both by what was trained: counted spikes, or the readout's potential. Nothing was tuned."
)
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
Data = tuple[Tensor, Tensor]


class Tutorial5(nn.Module):
    """The network of snnTorch's tutorial 5, as it is written there."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(28 * 28, HIDDEN), snn.Leaky(beta=0.95)
        self.fc2, self.lif2 = nn.Linear(HIDDEN, 10), snn.Leaky(beta=0.95)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes and potentials (T, N, 10) of the last neurons for images (N, 784)."""
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        spk2_rec, mem2_rec = [], []
        for _ in range(TIME_STEPS):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec), torch.stack(mem2_rec)


def membrane_loss(_: Tensor, potentials: Tensor, labels: Tensor) -> Tensor:
    """The tutorial's: cross-entropy of the potentials, summed over the steps."""
    return torch.stack([F.cross_entropy(potential, labels) for potential in potentials]).sum()


def count_loss(spikes: Tensor, _: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the spike counts (snnTorch's `ce_count_loss`)."""
    return F.cross_entropy(spikes.sum(0), labels)


def linear_loss(_: Tensor, potentials: Tensor, labels: Tensor) -> Tensor:
    """`neuroprune.readout_loss`."""
    return neuroprune.readout_loss(potentials, labels)


@dataclass(frozen=True)
class Way:
    """How to reset, read out and train, and whether the chip's neurons only approximate it."""

    label: str
    loss: Loss
    hard: bool = True
    readout: str | None = None

    def scores(self, output: tuple[Tensor, Tensor]) -> Tensor:
        """(N, 10): counted spikes, or the readout's last potential."""
        spikes, potentials = output
        return spikes.sum(0) if self.readout is None else potentials[-1]


WAYS = (
    Way("as it is written, read approximately", membrane_loss, hard=False),
    Way("reset to zero, the tutorial's membrane loss", membrane_loss),
    Way("reset to zero, loss of counted spikes", count_loss),
    Way("reset to zero, linear readout", linear_loss, readout="lif2"),
)


def trained(way: Way, data: Data, steps: int, seed: int) -> Tutorial5:
    """A network trained one way, with true zeros."""
    torch.manual_seed(seed)
    model = Tutorial5()
    if way.hard:
        neuroprune.to_hard_reset(model, readout=way.readout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    pruner = neuroprune.prune_to(SPARSITY, optimizer, steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = torch.randint(len(data[0]), (BATCH,), generator=generator)
        optimizer.zero_grad()
        spikes, potentials = model(data[0][batch])
        way.loss(spikes, potentials, data[1][batch]).backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
    pruner.finalize()
    return model.eval()


@torch.no_grad()
def measured(way: Way, model: Tutorial5, data: Data) -> dict[str, float]:
    """Accuracy in torch and on the chip, and zeros, in per cent."""
    images, labels = data
    network = hw_targets.from_torch(model, images[:16])
    chip = hw_targets.quantize(network, hw_targets.load_chip(CHIP), approximate=not way.hard)
    in_torch = (way.scores(model(images)).argmax(1) == labels).float().mean()
    on_chip = (torch.from_numpy(hw_targets.emulate(chip, images).output).argmax(1) == labels).float().mean()
    weights = [layer.weight for layer in (model.fc1, model.fc2)]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    return {"torch": 100 * float(in_torch), "chip": 100 * float(on_chip), "zeros": 100 * zeros}


def run(*, quick: bool = False) -> Report:
    """Every way with every seed."""
    steps, seeds, shown = (20, 1, 200) if quick else (STEPS, SEEDS, TEST_IMAGES)
    report = Report("hard_reset", quick, {"steps": steps, "seeds": seeds, "test_images": shown}, METHOD)
    split = fashion_mnist()
    train, test = _flat(split.train, len(split.train)), _flat(split.test, shown)
    with one_thread(), progress_bar(len(WAYS) * seeds, "hard_reset") as bar:
        for way in WAYS:
            found = []
            for seed in range(seeds):
                found.append(measured(way, trained(way, train, steps, seed), test))
                bar.update()
            report.values[way.label] = found
            for where in ("torch", "chip"):
                label = f"{way.label}: accuracy {'in torch' if where == 'torch' else f'on {CHIP}'}, per cent"
                values = [f[where] for f in found]
                report.results.append(Result(f"{way.label}/{where}", label, summarize(values)))
    return report


def markdown(values: dict[str, list[dict[str, float]]]) -> str:
    """The table of docs/snntorch-to-chip.md: mean ± standard deviation over the seeds."""
    rows = ["| | in torch | on the chip | |", "|:--|--:|--:|:--|"]
    for way in WAYS:
        cells = [_spread([f[where] for f in values[way.label]]) for where in ("torch", "chip")]
        rows.append(f"| {way.label} | {cells[0]} | {cells[1]} | {'exact' if way.hard else 'approximate'} |")
    return "\n".join(rows)


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.1f} ± {deviation:.1f} %"


def _flat(data: ImageSet, samples: int) -> Data:
    """Images (N, 784), values 0 … 1, and labels."""
    return data.as_input(data.images[:samples]).flatten(1), data.labels[:samples]
