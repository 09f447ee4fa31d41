"""A model's folder: what comes back is the model, zeros included, and what would not come back is not written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import neuroprune
from hw_targets.app.cli import main
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training.toml import InvalidRecipe


def pruned() -> SmallSEWResNet:
    torch.manual_seed(1)
    model = SmallSEWResNet((2, 4))
    with torch.no_grad():
        model.fc.weight[:5] = 0
    return model.eval()


def test_a_model_comes_back(tmp_path: Path) -> None:
    model = pruned()
    before = torch.get_rng_state()
    folder = neuroprune.save_pretrained(model, tmp_path / "mine", arguments={"widths": (2, 4)})
    assert torch.equal(torch.get_rng_state(), before)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    found = neuroprune.from_pretrained(folder)
    assert not found.training
    assert type(found) is SmallSEWResNet
    for (name, value), (_, mine) in zip(model.state_dict().items(), found.state_dict().items(), strict=True):
        assert torch.equal(value, mine), name
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(model.state_dict())
    weights = [p for p in model.parameters() if p.dim() > 1]
    zeros = sum(int((p == 0).sum()) for p in weights) / sum(p.numel() for p in weights)
    assert json.loads((folder / "config.json").read_text())["sparsity"] == pytest.approx(zeros)


def test_what_would_not_come_back_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="another model than the weights are of"):
        neuroprune.save_pretrained(pruned(), tmp_path / "other", arguments={"widths": (2, 8)})
    with pytest.raises(InvalidRecipe, match="cannot be written as JSON"):
        neuroprune.save_pretrained(pruned(), tmp_path / "odd", arguments={"widths": {2, 4}})

    class Local(nn.Linear):
        pass

    with pytest.raises(InvalidRecipe, match="cannot be built"):
        neuroprune.save_pretrained(Local(2, 2), tmp_path / "local", arguments={"in_features": 2, "out_features": 2})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_stays(tmp_path: Path) -> None:
    folder = neuroprune.save_pretrained(pruned(), tmp_path / "mine", arguments={"widths": (2, 4)})
    with pytest.raises(InvalidRecipe, match="exists already"):
        neuroprune.save_pretrained(pruned(), folder, arguments={"widths": (2, 4)})
    (tmp_path / "notes").mkdir()
    with pytest.raises(InvalidRecipe, match="exists already"):
        neuroprune.save_pretrained(pruned(), tmp_path / "notes", arguments={"widths": (2, 4)}, overwrite=True)
    other = SmallSEWResNet((2,))
    neuroprune.save_pretrained(other, folder, arguments={"widths": (2,)}, overwrite=True)
    assert torch.equal(neuroprune.from_pretrained(folder).state_dict()["fc.weight"], other.fc.weight)


def test_a_model_stays_where_the_disk_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = neuroprune.save_pretrained(pruned(), tmp_path / "mine", arguments={"widths": (2, 4)})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        write(path, content[:10])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        neuroprune.save_pretrained(SmallSEWResNet((2,)), folder, arguments={"widths": (2,)}, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "holds no model"),
        ("config.json", b'{"factory": "os:system", "arguments": {"command": "true"}}', "standard library"),
        ("model.safetensors", b"no tensors", "cannot be read"),
    ],
)
def test_a_broken_folder_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    folder = neuroprune.save_pretrained(pruned(), tmp_path / "mine", arguments={"widths": (2, 4)})
    (folder / name).write_bytes(content)
    with pytest.raises(InvalidRecipe, match=message):
        neuroprune.from_pretrained(folder)


def test_deploy_takes_such_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_lava(*_: object, **__: object) -> None:
        raise ImportError("elsewhere")

    monkeypatch.setattr("hw_targets.targets.loihi.lava.check.compare_with_lava", no_lava)
    folder = neuroprune.save_pretrained(pruned(), tmp_path / "mine", arguments={"widths": (2, 4)})
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.random((12, 1, 8, 8), np.float32), y=np.arange(12) % 10)
    command = ["deploy", str(folder), "--data", str(tmp_path / "data.npz"), "--time-steps", "2"]
    assert main([*command, "--out", str(tmp_path / "out"), "--json", "--samples", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "SmallSEWResNet"
    assert set(found["not_done"]) == {"verify"}
