"""The report: the numbers it was given, no section without its data, nothing from outside, and no file lost."""

from __future__ import annotations

import csv
import html
import json
import math
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hw_targets.app.report import words, write_comparison, write_figure, write_report
from hw_targets.app.report.read import number
from hw_targets.app.scalars import write_scalars
from hw_targets.errors import InvalidFile

pytest.importorskip("matplotlib")

SIZES = {"conv1": 288, "conv2": 18432, "conv3": 36864, "layer4.0.downsample.0": 73728, "fc1": 819200, "fc2": 5120}
SPARSITIES = (0.31, 0.894, 0.941, 0.9662, 0.9931, 0.72)

#: Sections of the page, each with the keys of the summary that it needs all of ("metrics": lines of metrics.jsonl).
SECTIONS = {
    "What was checked": ("checks", "lava_spike_differences", "lava_note"),
    "What could not be done": ("not_done",),
    "Accuracy along the chain": ("dense_accuracy", "pruned_accuracy", "quantized_accuracy", "chip_accuracy"),
    "Training": ("metrics",),
    "Layers": ("layers", "fan_in"),
    "Spikes": ("raster",),
    "Cores": ("core_usage",),
    "Where the energy comes from": ("energy_parts", "energy_coefficients"),
    "Notes": ("notes",),
    "How this was made": ("seconds", "versions", "commit"),
}
REACHED = (0.0, 412.5, 151.0, 61.5, 1.25, 0.5)
LIMITS = {"neurons": 1024, "input_axons": 4096, "output_axons": 4096, "synaptic_bits": 1048576}


def sample_layers() -> list[dict[str, Any]]:
    """Six layers: the first reads an image and so has MACs, the others SynOps."""
    layers = []
    for (name, weights), sparsity, reached in zip(SIZES.items(), SPARSITIES, REACHED, strict=True):
        zeros = round(weights * sparsity)
        synops = weights * reached
        macs = 225792 if name == "conv1" else 0
        counts = {"synops_dense": synops, "synops_pruned": synops * (1 - sparsity) * 0.8}
        counts |= {"macs_dense": macs, "macs_pruned": round(macs * (1 - sparsity))}
        layers.append({"name": name, "weights": weights, "zeros": zeros, **counts})
    return layers


def sample_cores(scale: float, seed: int) -> list[dict[str, Any]]:
    """Cores of six populations, each use below the limit of Loihi."""
    draw = random.Random(seed)
    counts = {"sn1": 25, "sn2": 12, "sn3": 6, "sn4": 6, "sn5": 2, "out": 1}
    populations = [name for name, count in counts.items() for _ in range(max(1, round(count * scale)))]
    used = [{key: round(limit * draw.uniform(0.15, 0.98)) for key, limit in LIMITS.items()} for _ in populations]
    places = [{"chip": 0, "x": n // 4 % 8, "y": n // 32, "received": 9 * n, "sent": n} for n in range(len(used))]
    return [{"population": n, **use, **place} for n, use, place in zip(populations, used, places, strict=True)]


def sample_summary() -> dict[str, Any]:
    """What a finished run on Fashion-MNIST could say."""
    layers = sample_layers()
    weights = sum(layer["weights"] for layer in layers)
    synops = {key: sum(layer[key] for layer in layers) for key in ("synops_dense", "synops_pruned")}
    usage = {"dense": sample_cores(1.0, 1), "pruned": sample_cores(0.5, 2)}
    source = "Davies 2018 Table 2, 0.75 V, pre-silicon, a minimum; second-hand (ferromorphic, keras-spiking)"
    prices = {"synaptic_events": 23.6, "active_updates": 81.0, "inactive_updates": 52.0, "messages": 1.7}
    parts = {"synaptic_events": 1.38e-3, "active_updates": 2.1e-5, "inactive_updates": 1.9e-5, "messages": 4e-7}
    return {
        "name": "Fashion-MNIST, spiking convolutional network, LATS",
        "dense_accuracy": 0.9123,
        "pruned_accuracy": 0.9087,
        "quantized_accuracy": 0.9071,
        "chip_accuracy": 0.9071,
        "sparsity": sum(layer["zeros"] for layer in layers) / weights,
        "weights": weights,
        "layers": layers,
        **synops,
        "energy_dense_j": sum(parts.values()),
        "energy_pruned_j": 6.4e-5,
        "energy_chip": "loihi1",
        "energy_parts": {"dense": parts, "pruned": {name: joules / 22 for name, joules in parts.items()}},
        "energy_coefficients": {n: {"value": v, "unit": "pJ", "source": source} for n, v in prices.items()},
        "energy_not_modelled": ["mesh hops between cores", "idle (static) power", "input and output of the host"],
        "cores": {chip: {version: len(cores) for version, cores in usage.items()} for chip in ("loihi1", "loihi2")},
        "core_usage": {
            "loihi1": {"limits": LIMITS, **usage},
            "loihi2": {"limits": {**LIMITS, "neurons": 8192, "input_axons": None}, **usage},
        },
        "fan_in": {
            "chip": "loihi1",
            "limit": {"key": "input_axons_per_core", "value": 4096},
            "populations": [{"name": "sn1", "all": 9, "largest": 7, "median": 3.0, "smallest": 0}],
        },
        "raster": {
            "steps": 4,
            "populations": [{"name": "sn1", "neurons": 2, "shown": 2, "dense": [[0, 1], [2, 0]], "pruned": [[3, 1]]}],
        },
        "checks": [{"what": "all", "against": "torch", "compared": 12, "differences": 0, "samples": 2}],
        "not_done": [{"part": "export as nir", "reason": "a layer has no such node"}],
        "notes": ["decays were rounded"],
        "lava_spike_differences": 0,
        "lava_spikes_compared": 1843200,
        "lava_samples": 8,
        "lava_note": None,
        "seconds": {"train dense": 92.4, "train pruned": 95.1, "place": 12.02, "check against Lava": 31.7},
        "versions": {"torch": "2.12.1", "numpy": "2.3.5", "spikingjelly": "2.0.0"},
        "commit": "86d0bfe1c2",
    }


def sample_metrics(steps: int = 850) -> list[dict[str, Any]]:
    """Two runs: the loss falls noisily, the learning rate follows a cosine, the threshold ramps up."""
    draw, lines, threshold = random.Random(0), [], 0.0
    for run in ("dense", "pruned"):
        for step in range(steps):
            rate = 1e-3 * (1 + math.cos(math.pi * step / steps)) / 2
            loss = 0.25 + 2 * math.exp(-step / 90) + draw.gauss(0, 0.04)
            line = {"run": run, "step": step, "epoch": step // 170, "loss": loss, "lr": rate}
            if run == "pruned":
                threshold += rate * 0.05
                line |= {"threshold": threshold, "l1": 0.05}
            lines.append(line)
    return lines


def run_folder(folder: Path, summary: Any = None, metrics: list[Any] | None = None) -> Path:
    """Write a run folder; the sample where nothing else is given."""
    lines = sample_metrics(60) if metrics is None else metrics
    (folder / "summary.json").write_text(json.dumps(sample_summary() if summary is None else summary))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def text_of(report: Path) -> str:
    """The words of the page, without its tags and plots."""
    page = re.sub(
        r"<style>.*?</style>|<script>.*?</script>|<svg.*?</svg>",
        " ",
        report.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's report, for tests that only read it."""
    return write_report(run_folder(tmp_path_factory.mktemp("run")))


class Page(HTMLParser):
    """What a browser would find: section titles, texts of plots, and whatever refers to something else."""

    def __init__(self, report: Path) -> None:
        super().__init__()
        self.titles: list[str] = []
        self.references: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.feed(report.read_text(encoding="utf-8"))
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "path", "use", "rect", "stop"):
            self.open.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            elif key in ("href", "xlink:href", "src", "action", "srcset", "data", "poster"):
                self.references.append(value or "")
        if tag in ("link", "iframe", "object", "embed", "img", "base"):
            self.loaded.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            self.words.setdefault(self.open[-1], []).append(data.strip())
            if self.open[-1] == "h2":
                self.titles.append(data)


def test_the_page_holds_the_figures_it_was_given(report: Path) -> None:
    assert report.name == "report.html"
    said = text_of(report)
    expected = ["Accuracy 90.87 % from 91.23 %: −0.36 points", "98.54 % of 953,632 weights are zero", "64.00 µJ"]
    expected += ["from 1.42 mJ: 22.2× less", "Cores on loihi2 26 from 52: 2.00× less", "pruned 90.87 % −0.36 points"]
    expected += [
        "0 differences from Lava's simulator in 1,843,200 spikes compared",
        "0 differences from torch in 12 spikes compared",
        "Samples: 8",
        "conv2 18,432 16,478",
        "export as nir : a layer has no such node",
        "decays were rounded",
    ]
    expected += [
        "estimate for loihi1 from published coefficients. Not counted: mesh hops between cores; idle",
        "23.6 pJ Davies 2018",
        "86d0bfe1c2",
    ]
    expected += ["1 min 32 s", "torch 2.12.1"]
    assert [e for e in expected if e.replace("'", "&#x27;") not in said] == []
    assert "unknown" not in said


def test_the_plots_are_in_the_page(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    plots = re.findall(r'<svg[^>]*aria-label="([^"]*)".*?</svg>', page, flags=re.DOTALL)
    assert plots == [
        *("Threshold and L1 coefficient", "Loss and learning rate"),
        *("Sparsity per layer", "SynOps per layer", "Inputs of a neuron", "Spikes"),
        *("Mesh of loihi1, dense: 52 cores", "Mesh of loihi1, pruned: 26 cores"),
        *("Mesh of loihi2, dense: 52 cores", "Mesh of loihi2, pruned: 26 cores"),
        *("Cores of loihi1, pruned: 26", "Cores of loihi2, pruned: 26"),
        *("Cores of loihi1, dense: 52", "Cores of loihi2, dense: 52"),
        "Energy per sample by cause",
    ]
    assert "input axons (limit unknown)" in page
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert {*re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', page)} <= {(i, "") for i in ids} | {("", i) for i in ids}


def test_plots_say_the_numbers_of_each_layer(tmp_path: Path) -> None:
    """A bar is labelled with its sparsity, and one whose zeros nobody counted is unknown."""
    summary = {"layers": [*sample_layers()[:2], {"name": "conv9", "weights": 100, "zeros": None}]}
    summary["layers"].append({"name": "product", "weights": 0, "zeros": 0, "synops_dense": 0, "synops_pruned": 0})
    summary["layers"][-2] |= {"synops_dense": 0, "synops_pruned": 0}
    page = Page(write_report(run_folder(tmp_path, summary, metrics=[])))
    labels = page.words["text"]
    assert {"30.9 % of 288", "89.4 % of 18.4 k"} <= set(labels)
    assert labels.count("unknown") == labels.count("no weights") == 1
    assert page.titles == ["Layers"]


def test_nothing_is_loaded_from_outside(report: Path) -> None:
    found, page = Page(report), report.read_text(encoding="utf-8")
    assert found.loaded == []
    assert [reference for reference in found.references if not reference.startswith("#")] == []
    assert not re.search(r"https?://|@import|url\((?!#)|\bfetch\(|XMLHttpRequest|import\(", page)
    assert page.count("<script") == 1


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without their plots, which take most of the time."""
    monkeypatch.setattr("hw_targets.app.report.page.svg", lambda *_: "")


@pytest.mark.parametrize("change", ["absent", "null", "wrong"])
@pytest.mark.usefixtures("undrawn")
def test_a_section_is_there_if_its_data_are(change: str, tmp_path: Path) -> None:
    def titles(*keys: str) -> list[str]:
        summary = sample_summary()
        for key in {*keys} & {*summary}:
            summary[key] = None if change == "null" else [{"name": 3}, 7] if key != "layers" else 7
            if change == "absent":
                del summary[key]
        lines = [] if "metrics" in keys else sample_metrics(3)
        return Page(write_report(run_folder(tmp_path, summary, metrics=lines), overwrite=True)).titles

    assert titles() == list(SECTIONS)
    for section, keys in SECTIONS.items():
        if change == "wrong" and section in ("What could not be done", "What was checked", "Notes"):
            continue  # a record without its texts is a record all the same
        assert titles(*keys) == [title for title in SECTIONS if title != section], section


@pytest.mark.usefixtures("undrawn")
def test_a_training_alone_gives_a_short_page(tmp_path: Path) -> None:
    summary = {"name": "mine", "validation_accuracy": 0.873, "sparsity": 0.9}
    report = write_report(run_folder(tmp_path, summary, metrics=sample_metrics(3)))
    assert Page(report).titles == ["Training"]
    said = text_of(report)
    assert "Validation accuracy 87.30 %" in said
    assert "unknown" not in said
    (tmp_path / "metrics.jsonl").unlink()
    assert Page(write_report(tmp_path, overwrite=True)).titles == []


@pytest.mark.usefixtures("undrawn")
def test_one_model_alone_is_called_a_model(tmp_path: Path) -> None:
    summary = {key: value for key, value in sample_summary().items() if "dense" not in key and key != "seconds"}
    for layer in summary["layers"]:
        del layer["synops_dense"], layer["macs_dense"]
    for key in ("energy_parts", *(f"core_usage.{chip}" for chip in ("loihi1", "loihi2"))):
        table = summary[key.split(".")[0]]
        (table[key.split(".")[1]] if "." in key else table).pop("dense")
    said = text_of(write_report(run_folder(tmp_path, summary, metrics=[])))
    assert "Mesh of loihi1, model: 26 cores" in said
    assert "dense" not in said
    assert "less" not in said
    assert "unknown" not in said


def test_an_empty_summary_and_no_steps_give_an_empty_page(tmp_path: Path) -> None:
    report = write_report(run_folder(tmp_path, {}, metrics=[]))
    assert Page(report).titles == []
    assert text_of(report).split() == ["run", "run", *text_of(report).split()[2:]]
    assert "unknown" not in text_of(report)


def test_the_steps_of_a_training_as_csv(tmp_path: Path) -> None:
    lines = sample_metrics(3)
    path = write_scalars(run_folder(tmp_path, metrics=lines), tmp_path / "scalars.csv")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["run"] for row in rows] == ["dense"] * 3 + ["pruned"] * 3
    for row, line in zip(rows, lines, strict=True):
        assert {key: float(value) for key, value in row.items() if value and key != "run"} == {
            key: value for key, value in line.items() if key != "run"
        }
    with pytest.raises(InvalidFile, match="exists already"):
        write_scalars(tmp_path, path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(InvalidFile, match=r"no metrics\.jsonl with steps"):
        write_scalars(tmp_path, tmp_path / "none.csv")


def test_several_runs_are_compared(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    run_folder(tmp_path / "one")
    run_folder(tmp_path / "two", {"name": "short", "sparsity": 0.5, "validation_accuracy": 0.7}, sample_metrics(4))
    path = write_comparison([tmp_path / "one", tmp_path / "two"], tmp_path / "both.html")
    said = text_of(path)
    assert "2 runs one, two" in said
    assert "two 70.00 % – – – 50.00 % – – – – short" in said
    plots = re.findall(r'<svg[^>]*aria-label="([^"]*)"', path.read_text(encoding="utf-8"))
    assert plots == ["Sparsity per layer", "Loss", "Threshold d", "Coefficient μ"]
    with pytest.raises(InvalidFile, match="exists already"):
        write_comparison([tmp_path / "one", tmp_path / "two"], path)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CLICKS = """<script>
const titles = table => [...table.tBodies[0].rows].map(row => row.cells[0].textContent);
const table = document.querySelector("table.layers");
const heads = [...table.tHead.rows[0].cells];
const zeros = heads.find(head => head.textContent === "zeros").querySelector("button");
const found = [];
for (const button of [zeros, zeros, heads[0].querySelector("button")]) { button.click(); found.push(titles(table)); }
document.title = JSON.stringify({found, wide: document.documentElement.scrollWidth > innerWidth});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt-get install chromium")
def test_tables_sort_and_nothing_is_wider_than_a_phone(report: Path, tmp_path: Path) -> None:
    page = tmp_path / "clicked.html"
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", CLICKS + "</body>"), encoding="utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}/c",
    ]
    done = subprocess.run(
        [str(CHROMIUM), *options, "--window-size=500,900", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    told = json.loads(html.unescape(title[1]))
    ascending = ["conv1", "fc2", "conv2", "conv3", "layer4.0.downsample.0", "fc1"]
    assert told["found"] == [
        [*ascending, "sum"],
        [*ascending[::-1], "sum"],
        [*sorted(SIZES), "sum"],
    ]
    assert told["wide"] is False
    assert "CONSOLE" not in done.stderr


@pytest.mark.parametrize("value", [None, float("nan"), 10**400])
def test_numbers_that_are_none_are_unknown(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: spoil(v) for key, v in item.items()}
        if isinstance(item, list):
            return [spoil(v) for v in item]
        return value if isinstance(item, int | float) else item

    folder = run_folder(tmp_path, spoil(sample_summary()), [spoil(line) for line in sample_metrics(3)])
    if value is None:  # every number is read in one place: drawn once
        write_figure(folder, tmp_path / "picture.png")
    else:
        monkeypatch.setattr("hw_targets.app.report.page.svg", lambda *_: "")
    said = text_of(write_report(folder))
    assert "Energy per sample, loihi1 unknown" in said
    assert not re.search(r"\b(nan|inf)\b", said)


HOSTILE = ("<script>alert(1)</script>", 'a"><img src=x>', "$\\frac$", "\ud800\x00", "神経", "x" * 900)


def hostile_run(folder: Path, *names: str) -> Path:
    """A run in which everything that has a name has these, and all texts are the first of them."""
    summary = sample_summary() | dict.fromkeys(("name", "commit", "lava_note", "energy_chip"), names[0])
    for layer, name in zip(summary["layers"], names, strict=False):
        layer["name"] = name
    usage = [{"population": name, "neurons": 7} for name in names]
    summary["core_usage"] = {name: {"limits": LIMITS, "pruned": usage} for name in names}
    summary["energy_parts"] = summary["seconds"] = summary["versions"] = {name: {name: name} for name in names}
    return run_folder(folder, summary, [line | {"run": name} for line in sample_metrics(3) for name in names])


def assert_only_letters(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    assert page.count("<script") == 1, "the page's own"
    assert "<img" not in page


def test_hostile_names_are_only_letters_in_the_plots(tmp_path: Path) -> None:
    assert_only_letters(write_report(hostile_run(tmp_path, *HOSTILE)))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("undrawn")
def test_hostile_names_are_only_letters(name: str, tmp_path: Path) -> None:
    folder = hostile_run(tmp_path, name)
    assert_only_letters(write_report(folder))
    write_figure(folder, tmp_path / "picture.png")


def cut(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


def not_an_object(path: Path) -> None:
    path.write_text("[1, 2]")


def not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def too_deep(path: Path) -> None:
    path.write_text("[" * 100_000)


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "broken JSON: .*{name}.*; restore the file or repeat the run"),
        (not_an_object, "not a JSON object: .*{name}.*; restore the file"),
        (not_text, "{name} cannot be read .*; restore it or repeat the run"),
        (too_deep, "broken JSON: .*{name}.*; restore the file"),
    ],
)
def test_broken_files_are_refused_and_the_old_report_stays(
    name: str, spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    run_folder(tmp_path)
    spoil(tmp_path / name)
    (tmp_path / "report.html").write_text("old")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(InvalidFile, match=message.format(name=re.escape(name))) as caught:
        write_report(tmp_path, overwrite=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidFile, match=message.format(name=re.escape(name))):
        write_figure(tmp_path, tmp_path / "new.png")
    assert (tmp_path / "report.html").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_folder_without_a_summary_is_refused(tmp_path: Path) -> None:
    (run_folder(tmp_path) / "summary.json").unlink()
    with pytest.raises(InvalidFile, match=r"no summary\.json in .*; name the folder of a finished run"):
        write_report(tmp_path)


def test_the_line_of_a_broken_step_is_named(tmp_path: Path) -> None:
    path = run_folder(tmp_path) / "metrics.jsonl"
    path.write_text(path.read_text() + '{"run": "den')
    with pytest.raises(InvalidFile, match=r"metrics\.jsonl, line 121: "):
        write_report(tmp_path)


def test_a_report_is_replaced_only_when_asked(tmp_path: Path) -> None:
    summary = sample_summary()
    del summary["core_usage"]["loihi2"], summary["core_usage"]["loihi1"]["dense"]
    first = write_report(run_folder(tmp_path, summary)).read_text(encoding="utf-8")
    with pytest.raises(InvalidFile, match="exists already"):
        write_report(tmp_path)
    assert write_report(tmp_path, overwrite=True).read_text(encoding="utf-8") == first


@pytest.mark.parametrize(
    ("differences", "compared", "verdict", "said"),
    [
        (0, 500, "good", "0 differences from Lava&#x27;s simulator in 500 spikes compared"),
        (3, 500, "bad", "3 differences from Lava&#x27;s simulator, spikes compared: 500"),
        (0, 0, "", "This shows nothing"),
        (0, None, "", "This shows nothing"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_lava_agrees_only_where_spikes_were_compared(
    differences: int, compared: int | None, verdict: str, said: str, tmp_path: Path
) -> None:
    summary = {"lava_spike_differences": differences, "lava_spikes_compared": compared}
    page = write_report(run_folder(tmp_path, summary)).read_text(encoding="utf-8")
    assert f'<div class="verdict {verdict}">' in page
    assert said in page


@pytest.mark.parametrize("missing", ["", "core_usage", "layers"])
def test_the_picture_has_its_size(missing: str, tmp_path: Path) -> None:
    summary = {key: value for key, value in sample_summary().items() if key != missing}
    path = write_figure(run_folder(tmp_path, summary), tmp_path / "picture.png")
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1600, 900)
    with pytest.raises(InvalidFile, match="exists already"):
        write_figure(tmp_path, path)


@pytest.mark.parametrize("value", [None, "many", True, float("inf"), [3], 10**400])
def test_only_finite_numbers_count(value: Any) -> None:
    assert number({"key": value}, "key") is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.percent(0.99999), "> 99.99 %"),
        (words.percent(1.0), "100.00 %"),
        (words.percent(1e-7), "< 0.01 %"),
        (words.count(0.25), "0.25"),
        (words.short(999_600), "1 M"),
        (words.short(36_864), "36.9 k"),
        (words.joules(2.5e-10), "250.00 pJ"),
        (words.fewer(10, 20), "2.00× more"),
        (words.fewer(10, 0), "none left"),
        (words.fewer(0, 0), "the same"),
        (words.fewer(0, 5), "no ratio"),
        (words.points(0.5, 0.51), "+1.00 points"),
        (words.seconds(125.0), "2 min 5 s"),
        (words.clip("layer3.0.downsample.conv.0", 12), "layer…conv.0"),
    ],
)
def test_numbers_are_written_so(said: str, expected: str) -> None:
    assert said == expected
