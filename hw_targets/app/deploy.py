"""From one's own trained model and data to a chip, in one call: every part that can be done, and why others cannot."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hw_targets.app.given import Data, as_split
from hw_targets.app.parts import Export, Ledger, Version, export_all, judged, read_check
from hw_targets.app.run.unfinished import UnfinishedRun
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.stages import calibration_images, first_samples, layer_rows, map_network
from hw_targets.app.summary import fan_ins, hardware, rasters
from hw_targets.app.versions import commit, versions
from hw_targets.chips.chip import Chip
from hw_targets.errors import InvalidFile, InvalidNetwork, check_path, check_type, check_whole
from hw_targets.estimation import Estimate
from hw_targets.ir.activity import Activity
from hw_targets.ir.network import ChipNetwork, Network
from hw_targets.placement import Placement
from hw_targets.targets.registry import load_chip
from neuroprune.frameworks import framework_of
from neuroprune.training.data.base import DataSet, Split, has_steps


@dataclass(frozen=True, eq=False, repr=False)
class Deployment:
    """What came of a model on its way to a chip; what could not be done is None, and `not_done` has its reason.

    Attributes:
        summary: everything measured, as summary.json holds it.
        network: the model as it was read.
        chip_network: its integers on the chip.
        activity: what these sent on the samples that energy and time are averaged over.
        placement: its cores.
        estimate: its operations, energy and time.
        not_done: why, by what could not be done.
        report: the page; None without an `out`.
    """

    summary: Mapping[str, Any]
    network: Network | None
    chip_network: ChipNetwork | None
    activity: Activity | None
    placement: Placement | None
    estimate: Estimate | None
    not_done: Mapping[str, str]
    report: Path | None

    def __repr__(self) -> str:
        left = f", not done: {', '.join(self.not_done)}" if self.not_done else ""
        return f"Deployment({self.summary.get('name')} on {self.summary.get('chip')}{left})"


def deploy(
    model: nn.Module,
    data: Data,
    *,
    chip: str | Chip = "loihi1",
    out: str | Path | None = None,
    dense: nn.Module | None = None,
    time_steps: int | None = None,
    samples: int = 100,
    tested: int = 1000,
    compared: int = 2,
    overwrite: bool = False,
    name: str | None = None,
    announce: Callable[[str], object] = lambda _part: None,
) -> Deployment:
    """Read, count, quantize, emulate, place, estimate, export, verify and report a trained model.

    A part that cannot be done, because the chip, the file format or an installed package does not allow it, is in
    `Deployment.not_done` and in the report with its reason, and the rest goes on.

    Args:
        model: trained, of any framework that `from_torch` reads; it is put into evaluation mode.
        data: (samples, labels), samples (N, C, H, W) or with steps of their own (N, T, C, H, W); the path of an .npz
            file with such arrays; or a `Split` or a data set of `neuroprune.training.data`. Of arrays alone a fifth is
            tested on, and the rest calibrates.
        chip: its name, its file (.toml), or what `load_chip` gives.
        out: a new folder for summary.json, model.net (or what else the chip's target writes), model.nir, placement.npz
            and report.html; None writes nothing.
        dense: the same network before pruning, to be shown beside it.
        time_steps: T, where samples have no steps of their own.
        samples: test samples that operations, energy and time are averaged over.
        tested: most test samples for the accuracies.
        compared: samples whose every spike is compared with the chip's own simulator.
        overwrite: replace an earlier run in the same folder.
        name: of the report; by default the model's class.
        announce: called with the name of each part as it begins.

    Raises:
        HardwareTargetError: no such chip, an argument that is something else, a folder that is in the way, or data that
            the model does not take.
        DatasetNotFound: data that is absent or not as it must be.
    """
    found = chip if isinstance(chip, Chip) else load_chip(chip)
    for each in (model, *(() if dense is None else (dense,))):
        check_type("deploy", each, nn.Module, "a trained model")
    samples, tested, compared = (
        check_whole("deploy", key, value)
        for key, value in (("samples", samples), ("tested", tested), ("compared", compared))
    )
    time_steps = None if time_steps is None else check_whole("deploy", "time_steps", time_steps)
    split, calibrates = as_split(data)
    models = ({} if dense is None else {"dense": dense.eval()}) | {"pruned": model.eval()}
    begun = None if out is None else _begun(check_path(out), overwrite=overwrite)
    folder = None if begun is None else RunFolder(begun.path, overwrite=True)
    run = _Run(found, split, calibrates, time_steps, samples, tested, announce, several=dense is not None)
    try:
        for each in models.values():
            run.check(each)
        for version, each in models.items():
            run.measure(version, each)
        run.compare(compared, None if folder is None else folder.path)
        summary = {"name": name or type(model).__name__, "chip": found.name, **run.summary()}
        report = None if folder is None else _written(folder, summary)
    except BaseException:  # nobody goes on with half of it
        if begun is not None:
            begun.discard()
        raise
    if begun is not None:
        begun.finish()
        report = None if report is None else begun.out / report.name
    last = run.versions["pruned"]
    return Deployment(
        summary,
        last.network,
        last.chip_network,
        None if last.mapped is None else last.mapped.activity,
        None if last.mapped is None else last.mapped.placements[found.name],
        None if last.mapped is None else last.mapped.estimates[found.name],
        run.ledger.reasons(),
        report,
    )


def _begun(out: Path, *, overwrite: bool) -> UnfinishedRun:
    """A folder beside `out`, whose place it takes when all is done."""
    if (out / "recipe.toml").exists():
        raise InvalidFile(f"{out} is the folder of a training run, whose results would be lost; choose another one")
    return UnfinishedRun.begin(out, None, {}, overwrite=overwrite)


def _written(folder: RunFolder, summary: dict[str, Any]) -> Path | None:
    """summary.json, and the page where it can be drawn."""
    from hw_targets.app.report import write_report

    folder.add_to_summary(summary)
    try:
        return write_report(folder.path, overwrite=True)
    except ImportError as error:
        folder.add_to_summary({"not_done": [*summary["not_done"], {"part": "report", "reason": str(error)}]})
        return None


@dataclass
class _Run:
    """One deployment as it goes along: what was found of each version, and what was not done."""

    chip: Chip
    data: Split[DataSet]
    calibrates: bool
    steps: int | None
    samples: int
    tested: int
    announce: Callable[[str], object]
    several: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    versions: dict[str, Version] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)

    @property
    def test(self) -> DataSet:
        """The samples that accuracies are of."""
        return self.data.test.subset(0, min(self.tested, len(self.data.test)))

    @property
    def time_steps(self) -> int:
        """T of samples without steps; 1 where it plays no part."""
        return self.steps or 1

    def check(self, model: nn.Module) -> None:
        """Run the model on one sample: what it does not take is no part that cannot be done, but a mistake."""
        if not len(self.data.test):
            raise InvalidFile("deploy: there are no test samples; give some")
        if framework_of(model) is not None and self.steps is None and not has_steps(self.data.test):
            raise InvalidNetwork("deploy: say for how many steps a sample is shown, time_steps=... (--time-steps)")
        shape = tuple(self.data.test.sample_shape)
        try:
            scores = Version.predictor(model, self.data.test, self.time_steps)(model, first_samples(self.data.test, 1))
        except Exception as error:  # whatever the user's own model raises
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InvalidNetwork(f"deploy: the model does not take samples of shape {shape}: {reason}") from error
        if scores.dim() != 2 or scores.shape[1] < self.data.test.classes:
            raise InvalidNetwork(
                f"deploy: the model gives scores of shape {tuple(scores.shape)} for one sample, but the data has"
                f" {self.data.test.classes} classes"
            )

    def measure(self, version: str, model: nn.Module) -> None:
        """Everything about one version of the network."""
        done = self.versions[version] = Version(model)
        shown = self.data.test.subset(0, min(self.samples, len(self.data.test)))
        with self.part("accuracy", version):
            done.accuracy = done.float_accuracy(self.test, self.time_steps)
        with self.part("count", version):
            done.count(shown, self.time_steps)
        with self.part("read", version):
            done.read(self.data.test, self.time_steps)
        with self.part("quantize", version):
            seen = calibration_images(self.data) if self.calibrates else None
            done.quantize(self.ledger.needed(done.network, "read"), self.chip, seen)
        with self.part("emulate", version):
            done.emulate(self.ledger.needed(done.chip_network, "quantize"), self.test)
        with self.part("place and estimate", version):
            network = self.ledger.needed(done.chip_network, "quantize")
            done.mapped = map_network(network, (self.chip,), first_samples(shown, len(shown)))

    def compare(self, samples: int, folder: Path | None) -> None:
        """What is done for the network that will be on the chip alone: compare with its judges, write files."""
        last = self.versions["pruned"]
        with self.part("compare with torch"):
            self.checks.append(read_check(last, self.data.test, self.time_steps))
        if folder is not None:
            seen = calibration_images(self.data) if self.calibrates else None
            with self.part("export"):
                network = self.ledger.needed(last.network, "read")
                self.exports += export_all(network, self.chip, seen, folder, self.ledger, overwrite=True)
            if last.mapped is not None:
                last.mapped.placements[self.chip.name].save(folder / "placement.npz", overwrite=True)
        with self.part("verify"):
            shown = first_samples(self.data.test, samples)
            self.checks.append(judged(self.exports, last.chip_network, self.chip, shown))

    @contextmanager
    def part(self, name: str, version: str | None = None) -> Iterator[None]:
        """One part: announced, timed, and noted with its reason where it cannot be done."""
        title = name if version is None or not self.several else f"{name}, {version}"
        self.announce(title)
        start = time.perf_counter()
        with self.ledger.part(title), torch.no_grad():
            yield
        self.seconds[title] = round(time.perf_counter() - start, 3)

    def summary(self) -> dict[str, Any]:
        """All that was found, as summary.json holds it."""
        last, found = self.versions["pruned"], dict[str, Any]()
        for version, done in self.versions.items():
            found |= done.values(version)
        counted = {version: done.synops for version, done in self.versions.items() if done.synops is not None}
        if "pruned" in counted:
            rows = layer_rows(last.model, counted, min(self.samples, len(self.data.test)))
            found["layers"] = rows
            found["weights"] = weights = sum(row["weights"] for row in rows)
            found["sparsity"] = sum(row["zeros"] for row in rows) / max(1, weights)
        mapped = {version: done.mapped for version, done in self.versions.items() if done.mapped is not None}
        if "pruned" in mapped:
            found |= hardware(mapped, (self.chip,))
        if last.whole is not None:
            found["fan_in"] = fan_ins(last.whole, self.chip)
        shown = {v: done.raster for v, done in self.versions.items() if done.raster is not None}
        if "pruned" in shown:
            found["raster"] = rasters(shown)
        found |= {"checks": self.checks, "not_done": self.ledger.not_done, "notes": self._notes()}
        found |= {"seconds": self.seconds, "versions": versions(), "commit": commit()}
        return found

    def _notes(self) -> list[str]:
        last = self.versions["pruned"]
        notes = [f"Accuracies are of {len(self.test)} of {len(self.data.test)} test samples."]
        if not self.calibrates:
            notes.append("No samples but those tested on were given, so that the integers were not calibrated.")
        if last.whole is not None:
            notes += last.whole.notes
        if last.mapped is not None:
            target = self.chip.supported("map")
            notes += target.remarks(last.mapped.network, last.mapped.activity, self.chip)
        return notes
