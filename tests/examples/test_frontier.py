"""The frontier harness: results file, planning, calibration, sweeping, table and figure."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.benchmarks import readme
from examples.benchmarks.frontier import __main__ as command
from examples.benchmarks.frontier.calibrate import MAX_RUNS, Trial, decide, tolerance
from examples.benchmarks.frontier.methods import METHODS
from examples.benchmarks.frontier.plan import missing, ready, wanted_cells
from examples.benchmarks.frontier.plot import LOOKS, plot
from examples.benchmarks.frontier.run import Unit, budget_of, end_loss, run_unit, settings_of, trace
from examples.benchmarks.frontier.store import Key, Record, ResultsError, append, cells, read
from examples.benchmarks.frontier.sweep import sweep
from examples.benchmarks.frontier.table import Cell, cell_text, frontiers, markdown
from examples.benchmarks.frontier.tasks import TASKS, Task
from neuroprune.training.data.base import DatasetNotFound, Split
from neuroprune.training.data.images import ImageSet
from neuroprune.training.loop import Hyperparameters


class Inline(Executor):
    """Runs what it is given at once, and counts."""

    def __init__(self) -> None:
        self.submitted: list[Any] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted.append(args[0])
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _record(unit: Unit, **more: Any) -> Record:
    """What a run of the unit would leave, with an accuracy made up from its seed and target."""
    known = METHODS[unit.method].knob
    share = (unit.knob or 0.0) / known.start if known else 0.0
    sparsity = share / (1 + share) if known else unit.target
    record: Record = {
        "kind": unit.kind,
        "model": unit.model,
        "method": unit.method,
        "target": unit.target,
        "seed": unit.seed,
        "budget": unit.key.budget,
        "size": unit.size,
        "task": unit.task.settings(),
        "settings": settings_of(METHODS[unit.method]),
        "knob": unit.knob,
        "sparsity": sparsity,
        "seconds": 0.1,
    }
    if unit.kind == "cell":
        record |= {"validation_accuracy": 0.8, "test_accuracy": round(0.9 - unit.target / 10 - unit.seed / 100, 6)}
    return record | more


def _wanted(methods: list[str], targets: tuple[float, ...] = (0.9,), seeds: tuple[int, ...] = (0, 1)) -> list[Unit]:
    return wanted_cells("quick", ["snn-mlp"], methods, targets, seeds)


def _sweep(wanted: list[Unit], path: Path, work: Callable[[Unit], Record] = _record) -> list[Unit]:
    executor = Inline()
    sweep(wanted, path, executor, 2, work=work, say=lambda _: None)
    return executor.submitted


def test_half_a_line_is_dropped_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "results" / "f.jsonl"
    records = [_record(unit) for unit in _wanted(["gmp"])]
    append(path, records[0])
    whole = path.read_bytes()
    for cut in (1, 10, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        assert read(path) == [records[0]]
        append(path, records[1])
        assert read(path) == records
    path.write_bytes(whole[:-1])  # nothing but half a line
    append(path, records[1])
    assert read(path) == [records[1]]


def test_half_a_line_longer_than_a_block_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    record = _record(_wanted(["gmp"])[0])
    append(path, record)
    with path.open("ab") as file:
        file.write(b"x" * 200_000)
    append(path, record)
    assert read(path) == [record, record]


def test_lines_of_many_writers_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    records = [{**_record(_wanted(["gmp"])[0]), "seed": i, "long": "x" * 5000} for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda record: append(path, record), records))
    assert sorted(r["seed"] for r in read(path)) == list(range(40))


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"kind": "cell"}', "3"])
def test_a_foreign_line_is_named_and_the_file_is_left_alone(tmp_path: Path, line: str, capsys: Any) -> None:
    path = tmp_path / "f.jsonl"
    append(path, _record(_wanted(["gmp"])[0]))
    with path.open("a") as file:
        file.write(line + "\n")
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=r"f\.jsonl:2 is .*remove that line, or choose another --out"):
        read(path)
    for action in ("run", "table", "plot"):
        assert command.main([action, "--out", str(path), "--methods", "gmp"]) == 1
    assert "f.jsonl:2" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_no_file_is_no_results(tmp_path: Path, capsys: Any) -> None:
    assert read(tmp_path / "none.jsonl") == []
    assert command.main(["table", "--out", str(tmp_path / "none.jsonl")]) == 1
    assert "no finished cells" in capsys.readouterr().err


def test_of_two_lines_with_one_key_the_first_counts() -> None:
    first, second = (_record(_wanted(["gmp"])[0], test_accuracy=x) for x in (0.1, 0.2))
    assert [r["test_accuracy"] for r in cells([first, second]).values()] == [0.1]
    assert "10.00" in markdown([first, second])


def test_dense_comes_once_per_seed_and_seeds_come_in_turn() -> None:
    wanted = _wanted(["dense", "gmp"], (0.8, 0.9))
    assert [(u.method, u.target, u.seed) for u in wanted] == [
        ("dense", 0.0, 0),
        ("gmp", 0.8, 0),
        ("gmp", 0.9, 0),
        ("dense", 0.0, 1),
        ("gmp", 0.8, 1),
        ("gmp", 0.9, 1),
    ]


def test_a_sweep_resumes_with_what_is_missing(tmp_path: Path) -> None:
    path, wanted = tmp_path / "f.jsonl", _wanted(["dense", "gmp"], (0.8, 0.9))
    assert len(_sweep(wanted[:3], path)) == 3
    assert _sweep(wanted, path) == wanted[3:]
    assert _sweep(wanted, path) == []
    assert set(cells(read(path))) == {unit.key for unit in wanted}
    assert all({"versions", "commit"} <= record.keys() for record in read(path))


def test_a_changed_budget_is_another_cell() -> None:
    unit = _wanted(["gmp"])[0]
    stale = _record(unit, budget="0" * 12)
    assert missing([unit], [stale]) == [unit]
    task = TASKS["quick"]["cnn"]
    changed = Task(task.model, task.size, task.widths, task.images, Hyperparameters(lr=task.hyper.lr, epochs=7))
    assert budget_of(task, METHODS["gmp"]) != budget_of(changed, METHODS["gmp"]) != budget_of(task, METHODS["rigl"])
    reseeded = Task(task.model, task.size, task.widths, task.images, task.seeded(5))
    assert budget_of(task, METHODS["gmp"]) == budget_of(reseeded, METHODS["gmp"])


def test_a_failing_run_ends_the_sweep_and_loses_nothing(tmp_path: Path) -> None:
    path, wanted = tmp_path / "f.jsonl", _wanted(["gmp"], (0.8, 0.9), (0, 1, 2))

    def work(unit: Unit) -> Record:
        if (unit.target, unit.seed) == (0.9, 0):
            raise MemoryError("no memory left")
        return _record(unit)

    with pytest.raises(MemoryError, match="no memory left"):
        _sweep(wanted, path, work)
    done = set(cells(read(path)))
    assert wanted[0].key in done
    assert wanted[1].key not in done
    assert len(done) < len(wanted)
    _sweep(wanted, path)
    assert set(cells(read(path))) == {unit.key for unit in wanted}


def test_an_interrupt_keeps_finished_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.jsonl"

    def interrupted(wanted: list[Unit], path: Path, *_: Any, **__: Any) -> None:
        append(path, _record(wanted[0]))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "sweep", interrupted)
    options = ["--out", str(path), "--models", "snn-mlp", "--methods", "gmp", "--sparsities", "90", "--seeds", "0", "1"]
    assert command.main(options) == 130
    assert "run again to go on" in capsys.readouterr().err
    assert len(read(path)) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DatasetNotFound("no images; install the data set"), "no images"),
        (ImportError("no torchao"), "no torchao"),
        (BrokenProcessPool("gone"), "a worker died"),
    ],
)
def test_what_a_user_can_mend_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(command, "sweep", failing)
    assert command.main(["--out", str(tmp_path / "f.jsonl"), "--methods", "gmp"]) == 1
    assert message in capsys.readouterr().err


def test_cells_of_a_method_with_a_knob_wait_for_calibration(tmp_path: Path) -> None:
    path, wanted = tmp_path / "f.jsonl", _wanted(["pat", "gmp"], (0.8, 0.9))
    start = ready(wanted, [], [])
    assert (start[0].kind, start[0].method, start[0].seed) == ("calibration", "pat", 0)
    assert [u.method for u in start[1:]] == ["gmp"] * 4
    assert not [u for u in ready(wanted, [], start[:1]) if u.method == "pat"]  # one at a time
    assert [u.target for u in ready(wanted, [], start[:2]) if u.seed == 0] == [0.9]  # what is under way is not begun
    units = _sweep(wanted, path)
    runs = [u for u in units if u.kind == "calibration"]
    assert all(sum(u.target == t for u in runs) <= MAX_RUNS for t in (0.8, 0.9))
    for record in cells(read(path)).values():
        if record["method"] == "pat":
            assert record["sparsity"] == pytest.approx(record["target"], abs=tolerance(record["target"]))
            assert record["knob"] in [u.knob for u in runs]
    assert _sweep(_wanted(["pat"], (0.8, 0.9), (7,)), path) == [
        Unit("cell", "quick", "snn-mlp", "pat", r["target"], 7, r["knob"])
        for r in list(cells(read(path)).values())
        if r["method"] == "pat" and r["seed"] == 0
    ]


@settings(max_examples=100, deadline=None)
@given(
    target=st.sampled_from([0.8, 0.9, 0.95, 0.98, 0.99]),
    middle=st.floats(-9, 0),
    slope=st.floats(0.5, 2.0),
    noise=st.floats(0, 0.01),
    steep=st.booleans(),
)
def test_calibration_finds_the_knob_of_a_rising_curve(
    target: float, middle: float, slope: float, noise: float, steep: bool
) -> None:
    def measure(knob: float) -> float:
        ratio = knob / math.exp(middle)
        density = 1 / (1 + ratio**slope) if steep else (1 + ratio) ** -slope
        return float(1 - density + noise * (1 - target) * random.Random(knob).uniform(-1, 1))

    trials: list[Trial] = []
    decision = decide(trials, target, 1e-3)
    while not decision.accepted:
        assert len(trials) < MAX_RUNS
        trials.append(Trial(decision.knob, measure(decision.knob), target))
        decision = decide(trials, target, 1e-3)
    best = min(trials, key=lambda t: abs(t.sparsity - target))
    assert decision.knob == best.knob
    if -9 < middle < -5 and slope > 0.8:  # from a start within reach
        assert abs(best.sparsity - target) <= tolerance(target)


def test_calibration_uses_other_targets_trials_and_gives_up_at_the_closest() -> None:
    trials = [Trial(1.0, 0.7, 0.8), Trial(4.0, 0.93, 0.8)]
    assert 1.0 < decide(trials, 0.9, 99.0).knob < 4.0
    stubborn = [Trial(float(k), 0.5, 0.9) for k in range(1, MAX_RUNS + 1)]
    assert decide(stubborn, 0.9, 1.0).accepted
    assert decide(stubborn, 0.95, 1.0).knob > MAX_RUNS
    crossed = [Trial(2.0, 0.8, 0.9), Trial(1.0, 0.95, 0.9)]
    assert decide(crossed, 0.9, 1.0).knob == pytest.approx(math.sqrt(2))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 1.0), min_size=2, max_size=5))
def test_a_cells_numbers_are_numpys(accuracies: list[float]) -> None:
    cell = Cell(tuple(accuracies), tuple([0.9] * len(accuracies)))
    mean = sum(accuracies) / len(accuracies)
    assert cell.mean == pytest.approx(mean)
    assert cell.sd == pytest.approx(math.sqrt(sum((a - mean) ** 2 for a in accuracies) / (len(accuracies) - 1)))


def _filled(methods: dict[str, list[float]], **more: Any) -> list[Record]:
    return [
        _record(unit, test_accuracy=methods[unit.method][unit.seed], **more)
        for unit in _wanted(list(methods), (0.9,), (0, 1, 2))
    ]


def test_table_numbers_and_marks() -> None:
    values = {"dense": [0.91, 0.92, 0.93], "gmp": [0.88, 0.90, 0.89], "rigl": [0.88, 0.88, 0.884], "snip": [0.5] * 3}
    text = markdown(_filled(values))
    assert "snn-mlp: test accuracy in per cent by target sparsity, mean ± standard deviation of 3 seeds" in text
    sd = {name: 100 * statistics.stdev(v) for name, v in values.items()}
    assert "|  | dense | 90 % |" in text
    assert f"| dense | 92.00 ± {sd['dense']:.2f} |  |" in text
    assert f"| gmp |  | **89.00 ± {sd['gmp']:.2f}** |" in text
    assert f"| rigl |  | _88.13 ± {sd['rigl']:.2f}_ |" in text  # within gmp's 1.00 of 89.00
    assert "| snip |  | 50.00 ± 0.00 |" in text


def test_all_cells_together() -> None:
    first = {"gmp": [0.88, 0.90, 0.89], "rigl": [0.88, 0.88, 0.884], "snip": [0.5] * 3}
    records = _filled(first)
    others = _filled({"gmp": [0.7] * 3, "rigl": [0.71] * 3})
    for record in others:
        record["target"] = 0.95
    text = markdown(records + others)
    assert "All 2 cells (model and sparsity) together:" in text
    # gmp: 0 and 1 points behind, rigl: 0.87 and 0, within the best's 1.00 and twice √(1.00² + 0.23²)/√3 = 1.19.
    assert "| gmp | 0.50 | 1.00 | 1 | 1 |" in text
    assert "| rigl | 0.43 | 0.87 | 2 | 2 |" in text
    assert "| snip | " not in text.split("together:")[1]  # one cell is missing


@pytest.mark.parametrize(
    ("sparsity", "shown"), [(0.9, False), (0.9009, False), (0.8991, False), (0.9011, True), (0.898, True)]
)
def test_a_sparsity_off_the_target_is_shown(sparsity: float, shown: bool) -> None:
    assert (f"at {100 * sparsity:.2f} %" in cell_text(Cell((0.8,), (sparsity,)), 0.9)) == shown


def test_diverged_runs_are_counted_and_not_averaged() -> None:
    records = _filled({"gmp": [0.8, 0.82, 0.0]})
    del records[2]["test_accuracy"], records[2]["sparsity"]
    records[2]["error"] = "the loss is nan"
    assert "81.00 ± 1.41 (1 diverged)" in markdown(records)
    for record in records[:2]:
        record["error"] = "the loss is nan"
    assert "diverged |" in markdown(records)


def test_budgets_are_not_mixed() -> None:
    old, new = _filled({"gmp": [0.1] * 3, "rigl": [0.1] * 3}), _filled({"gmp": [0.7] * 3})
    for record in old:
        record["task"] = {**record["task"], "images": 1}
        record["budget"] = "old" + record["method"]
    (found,) = frontiers(old + new)
    assert found.methods == ["gmp"]
    assert found.cells["gmp", 0.9].mean == pytest.approx(0.7)
    assert found.left_out == 6
    assert "6 runs of other budgets left out" in markdown(old + new)


def test_the_figure_is_written_anew(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "f.png"
    path.write_text("old")
    plot(_filled({"dense": [0.9] * 3, "gmp": [0.8, 0.81, 0.82], "lats": [0.85] * 3}), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_every_method_has_its_own_look() -> None:
    drawn = [LOOKS[name] for name in METHODS if name != "dense"]
    assert len(set(drawn)) == len(drawn)


def test_command_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f.jsonl"
    for record in _filled({"gmp": [0.8, 0.81, 0.82]}):
        append(path, record)
    assert command.main(["table", "--out", str(path)]) == 0
    assert "| gmp |  | **81.00 ± 1.00** |" in capsys.readouterr().out
    assert command.main(["plot", "--out", str(path)]) == 0
    assert (tmp_path / "f.png").is_file()
    for wrong in (
        ["--sparsities", "0"],
        ["--sparsities", "100"],
        ["--jobs", "0"],
        ["--seeds", "-1"],
        ["--methods", "x"],
    ):
        with pytest.raises(SystemExit):
            command.main(wrong)


def test_every_size_has_its_file_and_its_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(set(command.FILES.values())) == len(TASKS)
    for size, tasks in TASKS.items():
        path = tmp_path / command.FILES[size]
        for record in (_record(Unit("cell", size, model, "gmp", 0.9, 0)) for model in tasks):
            append(path, record)
        options = ["--size", size, "--out", str(path), "--methods", "gmp", "--sparsities", "90", "--seeds", "0"]
        assert command.main(["run", *options]) == 0
        assert f"{len(tasks)} cells, 0 to go" in capsys.readouterr().out


def test_a_run_with_nothing_missing_starts_no_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f.jsonl"
    for unit in _wanted(["gmp"], (0.9,), (0,)):
        append(path, _record(unit))
    options = ["--out", str(path), "--models", "snn-mlp", "--methods", "gmp", "--sparsities", "90", "--seeds", "0"]
    assert command.main(options) == 0
    assert "1 cells, 0 to go" in capsys.readouterr().out


def test_readme_shows_the_table_where_it_asks_for_it(tmp_path: Path) -> None:
    plain = "# Nothing generated\n"
    assert readme.updated(plain, tmp_path) == plain
    with pytest.raises(readme.ReadmeError, match="make frontier"):
        readme.frontier_tables(tmp_path)
    for record in _filled({"gmp": [0.8, 0.81, 0.82]}):
        append(tmp_path / "frontier_quick.jsonl", record)
    marked = plain + "<!-- frontier:begin -->\nold\n<!-- frontier:end -->\n"
    text = readme.updated(marked, tmp_path)
    assert "81.00 ± 1.00" in text
    assert "old" not in text
    assert readme.updated(text, tmp_path) == text
    append(tmp_path / "frontier.jsonl", _filled({"gmp": [0.7] * 3})[0])
    assert "70.00" in readme.frontier_tables(tmp_path)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks small enough to train for real, on images that are noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (128, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (128,), generator=generator)

    def load(task: Task, device: torch.device) -> Split:
        assert device.type == "cpu"
        return Split(*(ImageSet(images[:n], labels[:n]) for n in (task.images, 50, 60)))

    monkeypatch.setattr("examples.benchmarks.frontier.run.load", load)
    hyper = Hyperparameters(epochs=1, batch_size=16, lr=0.1)
    tasks = {
        "snn-mlp": Task("snn-mlp", "tiny", (8,), 128, hyper, time_steps=2),
        "sew": Task("sew", "tiny", (2, 4), 64, hyper, time_steps=2, stem_pool=True),
        "cnn": Task("cnn", "tiny", (2, 3, 8), 64, hyper),
        "transformer": Task("transformer", "tiny", (8, 8), 64, replace(hyper, adamw=True)),
    }
    monkeypatch.setitem(TASKS, "tiny", tasks)


@pytest.mark.parametrize("model", ["snn-mlp", "cnn", "transformer"])
def test_a_cell_is_reproducible_and_complete(model: str, tiny: None) -> None:  # noqa: ARG001 - a fixture
    unit = Unit("cell", "tiny", model, "gmp", 0.9, 1)
    first, second = run_unit(unit), run_unit(unit)
    assert Key.of(first) == unit.key
    for record in (first, second):
        for name in ("seconds", "cpu_seconds"):
            assert record.pop(name) > 0
    assert first == second
    assert json.loads(json.dumps(first)) == first
    assert first["sparsity"] == pytest.approx(0.9, abs=1e-3)
    assert 0 <= first["validation_accuracy"] <= 1
    assert run_unit(Unit("cell", "tiny", model, "gmp", 0.9, 2))["train_loss"] != first["train_loss"]


def test_fine_tuning_begins_with_a_trained_network(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - a fixture
    task, name = TASKS["tiny"]["transformer"], "transformer"
    trained = run_unit(Unit("cell", "tiny", name, "dense", 0.0, 3))
    resting = replace(task, hyper=replace(task.hyper, lr=0.0), start=task.hyper)
    monkeypatch.setitem(TASKS["tiny"], name, resting)
    record = run_unit(Unit("cell", "tiny", name, "dense", 0.0, 3))
    assert record["validation_accuracy"] == trained["validation_accuracy"]
    assert record["train_loss"] < trained["trace"]["loss"][0]
    assert record["budget"] != trained["budget"]


def test_a_calibration_run_sees_no_accuracy(tiny: None) -> None:  # noqa: ARG001 - a fixture
    record = run_unit(Unit("calibration", "tiny", "snn-mlp", "str", 0.9, 0, 0.3))
    assert (record["kind"], record["knob"]) == ("calibration", 0.3)
    assert 0 <= record["sparsity"] <= 1
    assert not any("accuracy" in name for name in record)


def test_divergence_is_a_result(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - a fixture
    wild = Hyperparameters(epochs=1, batch_size=16, lr=1e30, warmup_fraction=0.0)
    monkeypatch.setitem(TASKS["tiny"], "cnn", Task("cnn", "tiny", (2, 3, 8), 64, wild))
    record = run_unit(Unit("cell", "tiny", "cnn", "gmp", 0.9, 0))
    assert "the loss is" in record["error"]
    assert "test_accuracy" not in record


def test_trace_is_spread_over_the_run_and_loss_is_of_its_end() -> None:
    rows = [{"step": i, "loss": float(i), "lr": 0.1, "threshold": i / 10, "l1": 1.0} for i in range(1000)]
    course = trace(rows)
    assert {len(values) for values in course.values()} == {50}
    assert (course["step"][0], course["step"][-1], course["threshold"][-1]) == (0, 999, 99.9)
    assert end_loss(rows) == pytest.approx(statistics.fmean(range(950, 1000)))
    assert trace(rows[:1])["step"] == [0]
    assert end_loss(rows[:1]) == 0
