"""Prune in the first third of the training with PGH, then freeze the mask: the rest trains a fixed sparse network."""

import torch
from torch import nn

from neuroprune import PGH, SoftThresholdPruner
from neuroprune.models.cnn import SmallCNN
from neuroprune.training.data.fashion_mnist import fashion_mnist


def main(images: int = 20_000, epochs: int = 3, sparsity: float = 0.9) -> dict[str, float]:
    data = fashion_mnist().train.subset(0, images)
    torch.manual_seed(0)
    model, steps = SmallCNN(), epochs * (images // 64)
    early = steps // 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    pruner = SoftThresholdPruner(optimizer, PGH.for_sparsity(sparsity, scheduler, early))
    frozen = torch.zeros(0, dtype=torch.bool)
    for step, (pixels, labels) in enumerate(data.training_batches(64, epochs, seed=0)):
        if step == early:
            pruner.freeze()
            frozen = model.get_parameter("0.weight").eq(0)
        loss = nn.functional.cross_entropy(model(data.as_input(pixels)), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        scheduler.step()
    reached = pruner.sparsity()
    pruner.finalize()
    changed = int((frozen != model.get_parameter("0.weight").eq(0)).sum())
    return {"sparsity": reached, "weights of the first layer whose mask changed later": changed}


if __name__ == "__main__":
    print(main())
