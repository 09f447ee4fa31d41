"""From a trained network to Loihi in one call: integers, cores, files, Lava's verdict, energy, and a page about it."""

from pathlib import Path

import torch
from spikingjelly.activation_based import functional

import hw_targets
from neuroprune import prune_to
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training.data.fashion_mnist import fashion_mnist


def trained(images: int, widths: tuple[int, ...], time_steps: int) -> SmallSEWResNet:
    """Here a checkpoint of your own would be loaded instead."""
    data = fashion_mnist().train.subset(0, images)
    torch.manual_seed(0)
    model = SmallSEWResNet(widths)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pruner = prune_to(0.9, optimizer, steps=images // 64)
    for pixels, labels in data.training_batches(64, 1, seed=0):
        x = data.as_input(pixels)
        loss = torch.nn.functional.cross_entropy(model(x.expand(time_steps, *x.shape)).mean(0), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        functional.reset_net(model)
    pruner.finalize()
    return model.eval()


def main(
    out: Path = Path("runs/deploy_loihi"),
    images: int = 10_000,
    widths: tuple[int, ...] = (8, 32, 64),
    compared: int = 2,
) -> dict[str, float]:
    model = trained(images, widths, time_steps=4)
    done = hw_targets.deploy(
        model,
        fashion_mnist(),
        chip="loihi1",
        out=out,
        time_steps=4,
        tested=images // 10,
        compared=compared,
        overwrite=True,
    )
    print(done.report)
    for part, reason in done.not_done.items():
        print(f"not done: {part}: {reason}")
    assert done.placement is not None
    return {"accuracy in chip integers": done.summary["chip_accuracy"], "cores": done.placement.core_count}


if __name__ == "__main__":
    print(main())
