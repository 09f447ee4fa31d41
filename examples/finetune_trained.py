"""Prune a network that is trained already: load it, train on for a while with Adam, and keep its accuracy."""

import torch
from torch import nn

from neuroprune import prune_to
from neuroprune.models.cnn import SmallCNN
from neuroprune.training.data.fashion_mnist import fashion_mnist
from neuroprune.training.data.images import ImageSet


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: ImageSet, epochs: int) -> None:
    model.train()
    for pixels, labels in data.training_batches(64, epochs, seed=epochs):
        loss = nn.functional.cross_entropy(model(data.as_input(pixels)), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, data: ImageSet) -> float:
    model.eval()
    right = sum(int((model(data.as_input(x)).argmax(1) == y).sum()) for x, y in data.batches(500))
    return right / len(data)


def main(images: int = 20_000, epochs: int = 2, sparsity: float = 0.95) -> dict[str, float]:
    data = fashion_mnist()
    seen, test = data.train.subset(0, images), data.test.subset(0, images // 2)
    torch.manual_seed(0)
    model = SmallCNN()  # here a checkpoint of your own would be loaded instead
    train(model, torch.optim.AdamW(model.parameters(), lr=3e-3), seen, epochs)
    before = accuracy(model, test)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    pruner = prune_to(sparsity, optimizer, steps=epochs * (images // 64))
    train(model, optimizer, seen, epochs)
    reached = pruner.sparsity()
    pruner.finalize()
    return {"accuracy before": before, "accuracy after": accuracy(model, test), "sparsity": reached}


if __name__ == "__main__":
    print(main())
