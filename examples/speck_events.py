"""Events on Speck: Fashion-MNIST as an event camera on saccades would see it; sinabs judges."""

import sinabs.layers as sl
import torch
from torch import Tensor, nn

import hw_targets
from hw_targets.fit import check_fit
from hw_targets.targets.dynapcnn.core import cores_of
from hw_targets.targets.dynapcnn.memory import words
from neuroprune import keep_channels
from neuroprune.training.data.saccades import saccades


def neurons() -> nn.Module:
    found: nn.Module = sl.IAFSqueeze(num_timesteps=1, min_v_mem=-1.0)  # one step a call
    return found


def spike_counts(model: nn.Sequential, events: Tensor) -> Tensor:
    for layer in model:
        if isinstance(layer, sl.IAFSqueeze):
            layer.reset_states()
    return torch.stack([model(step) for step in events]).sum(0)  # (T, N, 2, 28, 28) → (N, 10)


def main(samples: int = 6000, channels: tuple[int, int] = (12, 24), compared: int = 20) -> dict[str, float]:
    data, chip = saccades(steps=6, samples=samples), hw_targets.load_chip("speck")
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, channels[0], 3, padding=1), nn.Conv2d(channels[0], channels[1], 3, padding=1)
    behind = sl.SumPool2d(2), nn.Flatten(), nn.Linear(channels[1] * 7 * 7, 10), neurons()
    model = nn.Sequential(first, neurons(), sl.SumPool2d(2), second, neurons(), *behind)

    def on_chip() -> hw_targets.ChipNetwork:
        real = hw_targets.from_torch(model, data.train.as_input(data.train.pixels(2))[0], time_steps=6)
        print(*check_fit(real, chip).savings, sep="\n")
        return hw_targets.remove_dead_neurons(hw_targets.quantize(real, chip))

    before = on_chip()
    for narrow in (False, True):
        if narrow:  # 12 and 24 channels cost as 16 and 32, 8 and 16 cost half as much
            keep_channels(first), keep_channels(second)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.dim()], lr=2e-3)  # thresholds stay
        for events, labels in data.train.training_batches(64, 1, seed=int(narrow)):
            loss = nn.functional.cross_entropy(spike_counts(model, data.train.as_input(events)), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    network, shown = on_chip(), data.test.as_input(data.test.pixels(samples // 10))
    found = hw_targets.emulate(network, shown).output.argmax(1) == data.test.labels[: samples // 10].numpy()
    verdict = chip.supported("verify").verify(network, shown[:, :compared].numpy(), lambda: None)
    print(f"{verdict}\n{hw_targets.place(network, chip).core_count} cores")
    kernels = [sum(words(core, net[core.name].shape).kernel for core in cores_of(net)) for net in (before, network)]
    numbers = {"kernel words before": kernels[0], "kernel words": kernels[1], "differences": verdict.differences}
    return {"accuracy in chip integers": float(found.mean()), **numbers}


if __name__ == "__main__":
    print(main())
