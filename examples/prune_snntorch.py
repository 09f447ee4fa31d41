"""Prune an snnTorch network whose neurons reset as chips do, and lay it on Loihi's cores."""

import snntorch as snn
import torch
from torch import Tensor, nn

import hw_targets
from neuroprune import prune_to, readout_loss, to_hard_reset
from neuroprune.training.data.fashion_mnist import fashion_mnist


class Net(nn.Module):
    def __init__(self, hidden: int, steps: int) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(784, hidden), snn.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(hidden, 10), snn.Leaky(beta=0.9)
        self.steps = steps

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        spikes, potentials = [], []
        for _ in range(self.steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            potentials.append(mem2)
        return torch.stack(spikes), torch.stack(potentials)


def main(images: int = 10_000, epochs: int = 1, sparsity: float = 0.9) -> dict[str, float]:
    train = fashion_mnist().train.subset(0, images)
    torch.manual_seed(0)
    net = Net(100, 8)
    to_hard_reset(net, readout="lif2")  # before the optimizer is made; docs/snntorch-to-chip.md
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    pruner = prune_to(sparsity, optimizer, steps=epochs * (images // 64))
    for pixels, labels in train.training_batches(64, epochs, seed=0):
        _, potentials = net(train.as_input(pixels).flatten(1))
        optimizer.zero_grad()
        torch.autograd.backward(readout_loss(potentials, labels))
        optimizer.step()
    reached = pruner.sparsity()
    pruner.finalize()
    chip = hw_targets.load_chip("loihi1")
    shown = train.as_input(train.pixels(16)).flatten(1)
    placement = hw_targets.place(hw_targets.to_chip(hw_targets.from_torch(net.eval(), shown), chip, shown), chip)
    return {"sparsity": reached, "cores": placement.core_count}


if __name__ == "__main__":
    print(main())
