"""A layer too wide for a chip, found before training, and trained within its limit."""

import torch
from spikingjelly.activation_based import functional
from torch import nn

import hw_targets
from hw_targets.fit import check_fit
from neuroprune import LATS, Cap, SoftThresholdPruner
from neuroprune.models.wide import WideConvNet
from neuroprune.training.data.fashion_mnist import fashion_mnist


def main(images: int = 6000, width: int = 512, cap: int = 300, time_steps: int = 2) -> dict[str, float]:
    data = fashion_mnist().train.subset(0, images)
    torch.manual_seed(0)
    model, chip, steps = WideConvNet(width), hw_targets.load_chip("loihi1"), images // 64
    example = data.as_input(data.pixels(2)).expand(time_steps, 2, 1, 28, 28)
    for row in check_fit(hw_targets.from_torch(model.eval(), example), chip):
        if row.excess:
            print(row.advice(chip))
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    schedule = LATS.for_sparsity(0.9, scheduler, steps)
    pruner = SoftThresholdPruner(optimizer, schedule, fan_in=Cap(cap))
    for pixels, labels in data.training_batches(64, 1, seed=0):
        x = data.as_input(pixels)
        loss = nn.functional.cross_entropy(model(x.expand(time_steps, *x.shape)).mean(0), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        scheduler.step()
        functional.reset_net(model)
    reached = pruner.sparsity()
    pruner.finalize()
    rows = [(weight != 0).flatten(1).sum(1) for weight in model.parameters() if weight.dim() > 1]
    return {"sparsity": reached, "most inputs of a neuron": max(int(row.max()) for row in rows)}


if __name__ == "__main__":
    print(main())
