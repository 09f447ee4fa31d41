"""A training run from its recipe to its folder, begun or gone on with."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hw_targets.app.fine_tuning import check_fine_tuning, fine_tune
from hw_targets.app.run.checkpoints import Checkpoint
from hw_targets.app.run.following import check_recipe, follow, together
from hw_targets.app.run.keeper import Keeper
from hw_targets.app.run.metrics import Metrics
from hw_targets.app.run.stopping import Stop
from hw_targets.app.run.tensorboard import Board
from hw_targets.app.run.unfinished import UnfinishedRun, is_run
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.stages import Trained, available_device, load_data, train_recipe, weight_rows
from hw_targets.errors import InvalidFile
from hw_targets.targets.registry import load_chip
from neuroprune.training.data.base import DataSet, Split
from neuroprune.training.loop import accuracy, predictor
from neuroprune.training.processes import Processes, found_processes
from neuroprune.training.recipe import InvalidRecipe, Recipe, load_recipe, recipe_text


@dataclass(frozen=True)
class Request:
    """What a user asks `neuroprune train` for; `recipe` and `device` None: as the run was begun, if it was.

    `tensorboard` is a folder for event files, below which the run's are in one of the name of `out`.
    """

    out: Path
    recipe: Path | None = None
    changes: tuple[str, ...] = ()
    dense: bool = False
    device: str | None = None
    every: int | None = None
    resume: bool = False
    overwrite: bool = False
    tensorboard: Path | None = None


def run_training(request: Request, stop: Stop, note: Callable[[str], object] = print) -> Mapping[str, Any]:
    """Train, and leave a run folder; its summary. `note` is told what else a user should know.

    Of several processes the first one does; the others have no summary.

    Raises:
        InvalidFile: the folder may not be written, or what is to be gone on with is something else.
        InvalidRecipe: no recipe, or one that cannot be trained.
        Terminated: SIGTERM came; the run can be gone on with.
        FloatingPointError: the loss became infinite; nothing is left of the run then, nor where a schedule went wrong.
    """
    processes = found_processes(request.device or "cpu")
    if not processes.is_first:
        return follow(request.out, processes, stop)
    run = UnfinishedRun.resume(request.out, overwrite=request.overwrite) if request.resume else None
    done = _finished(request) if run is None else None
    if done is None and run is not None and run.is_sealed:
        _check_request(request, run)
        run.finish()
        done = RunFolder.open(request.out).summary()
    if done is not None:
        processes.any(False)  # the others need not begin
        processes.end()
        return done
    return _trained(request, run, stop, note, processes)


def _trained(
    request: Request,
    run: UnfinishedRun | None,
    stop: Stop,
    note: Callable[[str], object],
    processes: Processes,
) -> Mapping[str, Any]:
    """Check all there is to check, then begin or go on."""
    board = Board(None if request.tensorboard is None else request.tensorboard / request.out.name)
    if run is None:
        recipe = _asked(request)
    else:
        _check_request(request, run)
        recipe = load_recipe(run.path / "recipe.toml")
    begun = {} if run is None else run.options
    device = available_device(processes.device(request.device or str(begun.get("device", "cpu"))))
    data = load_data(recipe)
    recipe.check(len(data.train))
    recipe.check_data(data.train)
    check_recipe(recipe, processes)
    if run is None:
        check_fine_tuning(recipe, data)
        started = {"dense": request.dense, "device": device, "threads": torch.get_num_threads(), "torch": _torch()}
        run = UnfinishedRun.begin(request.out, recipe_text(recipe), started, overwrite=request.overwrite)
    else:
        _as_it_was(run, device, note)
    with board:
        return _Training(recipe, data, run, stop, device, request.every, board, processes).go_on()


@dataclass(frozen=True)
class _Training:
    recipe: Recipe
    data: Split[DataSet]
    run: UnfinishedRun
    stop: Stop
    device: str
    every: int | None
    board: Board
    processes: Processes

    def go_on(self) -> Mapping[str, Any]:
        """From the newest checkpoint, or from the beginning, to the end."""
        folder, found = RunFolder(self.run.path, overwrite=True), self.run.newest()
        self.processes.any(True)  # the others may look for what they go on from, and then all begin
        self.processes.wait()
        scales: dict[str, Mapping[str, float]] = {}
        path = self.run.path / "metrics.jsonl"
        try:
            with Metrics(path, None if found is None else found.metrics) as metrics:
                result = self._train(metrics, found)
                if self.recipe.quantization is not None:
                    result, scale = self._fine_tune(result, metrics, found)
                    scales[load_chip(self.recipe.quantization.chip).name] = scale
        except (FloatingPointError, InvalidRecipe):
            self.run.discard()
            raise
        except BaseException:
            self.run.lock.close()
            raise
        self.processes.end()
        folder.save_model(result.model, scales=scales)
        predict = predictor(result.model, self.recipe.time_steps, self.data.validation)
        validation = accuracy(result.model, self.data.validation, predict, title="validation")
        summary = {
            "name": self.recipe.name,
            "validation_accuracy": validation,
            "sparsity": result.sparsity,
            "layers": weight_rows(result.model),
        }
        folder.add_to_summary(summary)
        self.run.finish()
        return summary

    def _train(self, metrics: Metrics, found: Checkpoint | None) -> Trained:
        """The first stage; where the second has begun, what it began with."""
        if found is not None and found.stage > 0:
            model = self.recipe.model().to(self.device)
            model.load_state_dict(found.state["before"])
            return Trained(model.eval(), 0.0)
        dense = bool(self.run.options["dense"])
        name = "dense" if dense else "pruned"
        keeper = self._keeper(metrics, 0, self.recipe.training.steps(len(self.data.train)), found)
        with self.stop.deferred():
            return train_recipe(
                self.recipe,
                self.data.train,
                pruned=not dense,
                record=self.board.recorder(name, metrics.recorder(name)),
                device=self.device,
                progress=together(keeper, self.processes, self.stop),
                processes=self.processes,
            )

    def _fine_tune(
        self, trained: Trained, metrics: Metrics, found: Checkpoint | None
    ) -> tuple[Trained, Mapping[str, float]]:
        assert self.recipe.quantization is not None
        steps = self.recipe.quantization.budget(self.recipe.training).steps(len(self.data.train))
        before = {key: value.detach().clone() for key, value in trained.model.state_dict().items()}
        keeper = self._keeper(metrics, 1, steps, found if found is not None and found.stage == 1 else None, before)
        with self.stop.deferred():
            record = self.board.recorder("fine-tuned", metrics.recorder("fine-tuned"))
            tuned = fine_tune(trained, self.recipe, self.data, record=record, progress=keeper)
        return tuned.trained, tuned.scales

    def _keeper(self, metrics: Metrics, stage: int, last: int, found: Checkpoint | None, before: Any = None) -> Keeper:
        besides = {} if before is None else {"before": before}
        return Keeper(self.run, metrics, self.stop, stage, last, self.every, found, besides)


def _asked(request: Request) -> Recipe:
    if request.recipe is None:
        raise InvalidRecipe(
            f"{request.out} has no interrupted run to go on with"
            if request.resume
            else "which recipe? neuroprune train RECIPE.toml --out FOLDER"
        )
    return load_recipe(request.recipe, request.changes)


def _finished(request: Request) -> Mapping[str, Any] | None:
    """The summary of a run that is to be gone on with and is finished: a job that is started again has nothing to do.

    Raises:
        InvalidFile: it is finished, but of another recipe.
    """
    if not request.resume or not is_run(request.out):
        return None
    folder = RunFolder.open(request.out)
    try:
        _check_recipe(request, folder.path / "recipe.toml")
    except InvalidFile:
        if request.overwrite:
            return None
        raise
    return {"validation_accuracy": None, "sparsity": None, **folder.summary()}


def _check_request(request: Request, run: UnfinishedRun) -> None:
    """Refuse to go on with a run as something else than it was begun as."""
    _check_recipe(request, run.path / "recipe.toml")
    if run.is_sealed:
        return
    if "dense" not in run.options:
        raise InvalidFile(f"{run.path} is of a demo, which is not gone on with; run the demo again")
    if request.dense and not run.options["dense"]:
        raise InvalidFile(f"{run.path} was begun without --dense; go on without, or begin anew with --overwrite")


def _check_recipe(request: Request, path: Path) -> None:
    if request.recipe is None and request.changes:
        raise InvalidRecipe(f"--set and --chip change a recipe, and {path} is not to be changed; leave them out")
    if request.recipe is None:
        return
    ours = path.read_text(encoding="utf-8").splitlines()
    asked = recipe_text(load_recipe(request.recipe, request.changes)).splitlines()
    if ours != asked:
        changed = [line for line in difflib.ndiff(ours, asked) if line[0] in "+-"]
        raise InvalidFile(
            f"{path} is of another recipe than {request.recipe}: {'; '.join(changed[:2])} (- begun, + asked for now);"
            " leave the recipe out to go on as begun, or begin anew with --overwrite and without --resume"
        )


def _as_it_was(run: UnfinishedRun, device: str, note: Callable[[str], object]) -> None:
    """Compute as before, since sums depend on the number of threads; say so where that cannot be."""
    torch.set_num_threads(int(run.options["threads"]))
    before = run.options["device"], run.options["torch"]
    if before != (device, _torch()):
        note(f"begun on {before[0]} with torch {before[1]}: numbers may differ in their last bits from now on")


def _torch() -> str:
    return str(torch.__version__)
