"""Prune a SpikingJelly network to a sparsity with LATS, and count the synaptic operations that this saves."""

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from neuroprune import LATS, SoftThresholdPruner, count_synops
from neuroprune.training.data.fashion_mnist import fashion_mnist


def main(images: int = 10_000, epochs: int = 2, sparsity: float = 0.9, time_steps: int = 4) -> dict[str, float]:
    data = fashion_mnist()
    train, test = data.train.subset(0, images), data.test.subset(0, 200)
    torch.manual_seed(0)
    model = nn.Sequential(
        *(layer.Flatten(), layer.Linear(784, 128, bias=False), layer.BatchNorm1d(128), neuron.IFNode()),
        layer.Linear(128, 10),
    )
    functional.set_step_mode(model, "m")
    steps = epochs * (images // 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    pruner = SoftThresholdPruner(optimizer, LATS.for_sparsity(sparsity, scheduler, steps))
    for pixels, labels in train.training_batches(64, epochs, seed=0):
        x = train.as_input(pixels)
        loss = nn.functional.cross_entropy(model(x.expand(time_steps, *x.shape)).mean(0), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        scheduler.step()
        functional.reset_net(model)
    reached = pruner.sparsity()
    pruner.finalize()
    x = test.as_input(test.pixels(len(test)))
    counted = count_synops(model.eval(), x.expand(time_steps, *x.shape))
    functional.reset_net(model)
    return {
        "sparsity": reached,
        "synops per image": counted.total / len(test),
        "synops per image, zeros billed": counted.dense / len(test),
    }


if __name__ == "__main__":
    print(main())
