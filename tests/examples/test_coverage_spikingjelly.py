"""The table of what is read of SpikingJelly: verdicts are true, and runs go on where they stopped."""

from __future__ import annotations

import json
from pathlib import Path

from examples.benchmarks import coverage_spikingjelly as coverage
from examples.benchmarks.coverage.spikingjelly_cases import parts, zoo


def test_verdicts(tmp_path: Path) -> None:
    out = tmp_path / "seen.json"
    names = ["neuron.IFNode", "neuron.PSN", "neuron.OTTTLIFNode", "layer.MaxPool2d", "layer.GroupNorm", "MNISTNet"]
    assert coverage.main([*names, "--out", str(out)]) == 0
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert {name: rows[name]["verdict"] for name in names} == {
        "neuron.IFNode": "exact",
        "neuron.PSN": "refused",
        "neuron.OTTTLIFNode": "exact",
        "layer.MaxPool2d": "exact",
        "layer.GroupNorm": "refused",
        "MNISTNet": "exact",
    }
    text = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "4 exact, 2 refused by name, 0 that differ" in text
    assert coverage.main(["neuron.LIFNode", "--out", str(out)]) == 0
    assert len(json.loads(out.read_text(encoding="utf-8"))) == 7


def test_every_part_of_the_table_is_exact_or_refused_by_its_name() -> None:
    for name, case in parts().items():
        row = coverage.look(case)
        kind = name.split(".")[1].split(",")[0]
        if row.verdict == "refused":
            assert f"({kind})" in row.detail, name
        else:
            assert row.verdict == "exact", (name, row)
            assert not row.detail.startswith("0 differ of 0 spikes"), name


def test_the_committed_table_holds_nothing_that_differs() -> None:
    rows = {name: coverage.Row(**row) for name, row in json.loads(coverage.STORE.read_text(encoding="utf-8")).items()}
    assert set(parts()) <= set(rows) <= {*parts(), *zoo()}
    assert {row.verdict for row in rows.values()} == {"exact", "refused"}
    assert coverage.TABLE.read_text(encoding="utf-8") == coverage.table(rows)
