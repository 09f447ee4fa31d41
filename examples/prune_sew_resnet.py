"""Prune a spiking residual network and write it as Lava's .net file, relay channels and all."""

from pathlib import Path

import torch
from spikingjelly.activation_based import functional

import hw_targets
from neuroprune import LATS, SoftThresholdPruner
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training.data.fashion_mnist import fashion_mnist


def main(
    out: Path = Path("sew_resnet.net"), images: int = 10_000, widths: tuple[int, ...] = (8, 32, 64), time_steps: int = 4
) -> dict[str, float]:
    data = fashion_mnist()
    train, test = data.train.subset(0, images), data.test.subset(0, images // 10)
    torch.manual_seed(0)
    model, steps = SmallSEWResNet(widths), images // 64
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    pruner = SoftThresholdPruner(optimizer, LATS.for_sparsity(0.9, scheduler, steps))
    for pixels, labels in train.training_batches(64, 1, seed=0):
        x = train.as_input(pixels)
        loss = torch.nn.functional.cross_entropy(model(x.expand(time_steps, *x.shape)).mean(0), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        scheduler.step()
        functional.reset_net(model)
    reached = pruner.sparsity()
    pruner.finalize()
    seen = train.as_input(train.pixels(100))
    network = hw_targets.from_torch(model.eval(), seen[:2].expand(time_steps, *seen[:2].shape))
    chip_network = hw_targets.to_chip(network, hw_targets.load_chip("loihi1"), seen, for_format="netx")
    hw_targets.export_netx(chip_network, out, overwrite=True)
    shown = test.as_input(test.pixels(len(test)))
    right = hw_targets.emulate(chip_network, shown).output.argmax(1) == test.labels.numpy()
    return {"sparsity": reached, "accuracy in chip integers": float(right.mean())}


if __name__ == "__main__":
    print(main())
