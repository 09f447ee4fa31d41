"""Prune an ordinary network while it trains: two lines more than a plain PyTorch loop."""

import torch

from neuroprune import prune_to
from neuroprune.models.cnn import SmallCNN
from neuroprune.training.data.fashion_mnist import fashion_mnist


def main(images: int = 20_000, epochs: int = 2, sparsity: float = 0.95) -> dict[str, float]:
    data = fashion_mnist()
    train, test = data.train.subset(0, images), data.test.subset(0, images // 2)
    torch.manual_seed(0)
    model, steps = SmallCNN(), epochs * (images // 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pruner = prune_to(sparsity, optimizer, steps=steps)
    for pixels, labels in train.training_batches(64, epochs, seed=0):
        loss = torch.nn.functional.cross_entropy(model(train.as_input(pixels)), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()  # prunes, too
    reached = pruner.sparsity()
    pruner.finalize()  # a plain model with true zeros in its weights
    model.eval()
    with torch.no_grad():
        right = sum(int((model(test.as_input(x)).argmax(1) == y).sum()) for x, y in test.batches(500))
    return {"accuracy": right / len(test), "sparsity": reached}


if __name__ == "__main__":
    print(main())
