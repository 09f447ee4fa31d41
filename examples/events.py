"""Events instead of images: Fashion-MNIST as an event camera on saccades would see it, from training to a report."""

from pathlib import Path

import torch
from spikingjelly.activation_based import functional

import hw_targets
from neuroprune import prune_to
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training.data.saccades import saccades


def main(
    out: Path = Path("runs/events"), samples: int = 6000, widths: tuple[int, ...] = (8, 16, 32), compared: int = 2
) -> dict[str, float]:
    data = saccades(steps=6, samples=samples)  # your own: neuroprune.training.data.events.event_set
    torch.manual_seed(0)
    model = SmallSEWResNet(widths, in_channels=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pruner = prune_to(0.8, optimizer, steps=samples // 64)
    for events, labels in data.train.training_batches(64, 1, seed=0):
        inputs = data.train.as_input(events)  # (T, N, 2, 28, 28): ON and OFF events of every step
        loss = torch.nn.functional.cross_entropy(model(inputs).mean(0), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        functional.reset_net(model)
    pruner.finalize()
    done = hw_targets.deploy(
        model, data, chip="loihi1", out=out, tested=samples // 10, compared=compared, overwrite=True, name="Saccades"
    )
    print(done.report)
    assert done.network is not None
    return {"accuracy in chip integers": done.summary["chip_accuracy"], "time steps": done.network.time_steps}


if __name__ == "__main__":
    print(main())
