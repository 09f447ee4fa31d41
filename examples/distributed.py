"""Prune over several processes with Accelerate: `torchrun --nproc-per-node 2 -m examples.distributed`."""

import torch
from accelerate import Accelerator
from spikingjelly.activation_based import functional
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from neuroprune import prune_to
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training.data.fashion_mnist import fashion_mnist


def main(
    images: int = 10_000, epochs: int = 2, sparsity: float = 0.9, widths: tuple[int, ...] = (8, 16)
) -> dict[str, float]:
    data = fashion_mnist()
    part = data.train.subset(0, images)
    torch.manual_seed(0)
    model = SmallSEWResNet(widths)
    pixels = part.as_input(part.pixels(len(part)))
    batches = DataLoader(TensorDataset(pixels, part.labels), 32, shuffle=True, drop_last=True)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    model, optimizer, batches = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 3e-3), batches)
    # The pruner takes the optimizer inside the prepared one; every process prunes alike.
    pruner = prune_to(sparsity, optimizer.optimizer, steps=epochs * len(batches))
    accelerator.register_for_checkpointing(pruner)  # save_state and load_state hold it
    for _ in range(epochs):
        for x, labels in batches:
            loss = nn.functional.cross_entropy(model(x.expand(4, *x.shape)).mean(0), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            functional.reset_net(accelerator.unwrap_model(model))
    reached = pruner.sparsity()
    pruner.finalize()
    return {"sparsity": reached, "processes": accelerator.num_processes, "steps": epochs * len(batches)}


if __name__ == "__main__":
    print(main())
