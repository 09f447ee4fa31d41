"""Runs killed at random moments: does each one that is gone on with end as if nothing had happened?

`train` is killed with signal 9, or asked to end by SIGTERM, and gone on with until it is finished; then every file of
its folder and of its last checkpoint (weights, θ, d, momentum, random numbers, metrics) must have the bytes of a run
that nobody disturbed, and what was in the folder before must have stayed whole until then. `map`, `export` and
`report` are killed, too; then every file in the folder is the old or the new one, and the same command can be given
again.

    python -m examples.benchmarks.crashes     # 100 kills, 20 SIGTERMs, 100 kills of the other commands (`make crashes`)
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import hw_targets.app.cli.deployment
import hw_targets.app.cli.reporting
import hw_targets.app.cli.training
from examples.benchmarks import crash_models
from examples.benchmarks.common import RESULTS
from hw_targets.app.run import hashes
from hw_targets.app.run.unfinished import UnfinishedRun
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.versions import commit, versions
from hw_targets.errors import HardwareTargetError
from hw_targets.files.atomic import write_new

MODELS = crash_models.__name__
_DATA = f'[data]\nfactory = "{MODELS}:images"\n'
_NOISY = f'[model]\nfactory = "{MODELS}:Noisy"\n{_DATA}'
#: What is trained: random layers and steered sparsity; bfloat16, accumulated; learned thresholds; fine-tuned integers.
RECIPES = {
    "noisy": f'name = "noisy"\n{_NOISY}[training]\nepochs = 2\nbatch_size = 8\n[pruning]\ntarget_sparsity = 0.8\n',
    "mixed": f'name = "mixed"\n{_NOISY}[training]\nepochs = 2\nbatch_size = 4\naccumulate = 2\namp = true\n'
    'update = "epoch"\n[pruning]\nfan_in = 20\nl1 = 0.05\n',
    "learned": f'name = "learned"\n{_NOISY}[training]\nepochs = 2\nbatch_size = 8\nweight_decay = 0.01\n'
    '[pruning]\nschedule = "STR"\ns_init = -3.0\n',
    "spiking": 'name = "spiking"\n[model]\nfactory = "neuroprune.models.sew_resnet:SmallSEWResNet"\ntime_steps = 2\n'
    f"[model.arguments]\nwidths = [2]\nclasses = 4\n{_DATA}[training]\nepochs = 2\nbatch_size = 8\n"
    '[pruning]\nl1 = 0.01\n[quantization]\nchip = "loihi1"\nepochs = 1\n',
}
COMMANDS = (
    ("map",), ("export",), ("export", "--format", "nir"), ("export", "--format", "sanafe"), ("report",),
)  # fmt: skip


@dataclass
class Counts:
    """What happened; `wrong` says what must never happen."""

    kills: int = 0
    terminations: int = 0
    ended_before_the_signal: int = 0
    runs_gone_on_with: int = 0
    commands_killed: int = 0
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(**{key: value + getattr(other, key) for key, value in vars(self).items()})


@dataclass
class Bench:
    """Where the runs are, and the moments at which they are disturbed."""

    folder: Path
    draw: random.Random
    counts: Counts = field(default_factory=Counts)
    seconds: dict[str, float] = field(default_factory=dict)

    def train(self, name: str, disturbances: Sequence[int]) -> None:
        """One run, disturbed by these signals one after the other, and gone on with to its end."""
        reference, last, seconds = self._undisturbed(name)
        out = self.folder / f"{name}-{self.draw.getrandbits(48):x}"
        command = ["train", str(self._recipe(name)), "--out", str(out), "--resume", "--checkpoint-every"]
        command.append(str(self.draw.choice([1, 2, 5, 9])))
        old: dict[str, str] = {}
        if self.draw.random() < 0.5:  # an earlier run is to be replaced
            other = "noisy" if name != "noisy" else "learned"
            shutil.copytree(self._undisturbed(other)[0], out)
            (out / "notes.txt").write_text("mine")
            old = digests(out)
            command.append("--overwrite")
        for number in disturbances:
            status = started(command, number, self.draw.uniform(0.0, 1.1 * seconds))
            self._count(number, status)
            self._check_place(out, old, name)
            if status == 0:
                break
        status = started(command)
        self.counts.runs_gone_on_with += 1
        notes = {"notes.txt": old["notes.txt"]} if old else {}
        self._expect(status == 0, f"{name}: the resumed run ended with status {status}")
        self._expect(digests(out) == {**digests(reference), **notes}, f"{name}: the folder differs: {command}")
        self._expect(digests(kept(out)) == digests(last), f"{name}: the last checkpoint differs: {command}")
        self._expect(not out.with_name(out.name + ".unfinished").exists(), f"{name}: something is left over")
        shutil.rmtree(out)
        shutil.rmtree(kept(out))

    def disturb_command(self, command: Sequence[str]) -> None:
        """A command on a finished spiking run, killed, looked at, and given again."""
        out = self.folder / "commands"
        if not out.exists():
            shutil.copytree(self._undisturbed("spiking")[0], out)
            for one in COMMANDS:
                self._expect(started([one[0], str(out), *one[1:]]) == 0, f"{one} fails undisturbed")
        whole = [command[0], str(out), *command[1:], "--overwrite"]
        before = digests(out)
        status = started(whole, signal.SIGKILL, self.draw.uniform(0.2, 1.0) * self.seconds.get(command[-1], 3.0))
        self.counts.commands_killed += status == -signal.SIGKILL
        between: dict[str, str] = {}
        for name, digest in digests(out).items():
            if not name.rpartition("/")[2].startswith(".neuroprune-") and name != hashes.NAME:
                between[name] = digest
        self._expect_whole(out, f"{command}, killed")
        begin = time.monotonic()
        self._expect(started(whole) == 0, f"{command} cannot be given again")
        self.seconds[command[-1]] = time.monotonic() - begin
        self._expect_whole(out, f"{command}, given again")
        after = digests(out)
        for name, digest in between.items():
            fine = digest in (before.get(name), after.get(name)) or name == "report.html"
            self._expect(fine, f"{command}: {name} was neither old nor new")

    def _undisturbed(self, name: str) -> tuple[Path, Path, float]:
        """A finished run's folder, its last checkpoint, and the seconds it took."""
        out = self.folder / f"{name}-undisturbed"
        if not out.exists():
            begin = time.monotonic()
            command = ["train", str(self._recipe(name)), "--out", str(out), "--checkpoint-every", "1000"]
            self._expect(started(command) == 0, f"{name} fails undisturbed")
            (self.folder / f"{name}.seconds").write_text(str(time.monotonic() - begin))
        return out, kept(out), float((self.folder / f"{name}.seconds").read_text())

    def _recipe(self, name: str) -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text(RECIPES[name])
        return path

    def _count(self, number: int, status: int) -> None:
        if status == 0:
            self.counts.ended_before_the_signal += 1
        elif number == signal.SIGKILL:
            self.counts.kills += 1
            self._expect(status == -signal.SIGKILL, f"status {status} of a killed run")
        else:
            self.counts.terminations += 1
            # Before it listens, which is in its first moments, the signal itself ends a process.
            self._expect(status in (143, -signal.SIGTERM), f"status {status} after SIGTERM")

    def _check_place(self, out: Path, old: dict[str, str], name: str) -> None:
        """After a signal: the earlier run, whole, or the new one, whole; or, of an instant's length, neither."""
        if not out.exists():
            inside = out.with_name(out.name + ".unfinished") / ".replaced"
            self._expect(not old or inside.exists(), f"{name}: the earlier run is gone")
            return
        if digests(out) != old:
            self._expect_whole(out, f"{name}, disturbed")
            reference = digests(self._undisturbed(name)[0])
            found = {k: v for k, v in digests(out).items() if k in reference}
            self._expect(found == reference, f"{name}: what took the place is not the whole run")

    def _expect_whole(self, out: Path, what: str) -> None:
        try:
            RunFolder.open(out)
        except HardwareTargetError as error:
            self.counts.wrong.append(f"{what}: {error}")

    def _expect(self, is_so: bool, what: str) -> None:
        if not is_so:
            self.counts.wrong.append(what)


def started(command: Sequence[str], number: int = 0, after: float = 0.0) -> int:
    """Give a command in a process of its own, which gets a signal after some seconds; its status, −signal if killed.

    The process is a fork of this one, so that nothing has to be loaded again; this one must not train itself.
    """
    child = os.fork()
    if child == 0:
        _become(command)
    if number:
        end = time.monotonic() + after
        while time.monotonic() < end:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
            time.sleep(0.001)
        os.kill(child, number)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _become(command: Sequence[str]) -> None:
    """Run the command line and end the process; of a run that is finished, keep the last checkpoint."""
    status = 99
    try:
        torch.set_num_threads(1)
        # What a recipe does not seed would differ between any two runs.
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - what the models draw from
        finish = UnfinishedRun.finish

        def keeping(run: UnfinishedRun) -> None:
            if run.checkpoint_folder.exists():
                copy = run.out.with_name(f"{run.out.name}.copy")
                shutil.rmtree(copy, ignore_errors=True)
                copy.mkdir()
                for suffix in (".json", ".safetensors"):
                    newest = sorted(run.checkpoint_folder.glob(f"*{suffix}"))[-1]
                    shutil.copy(newest, copy / newest.name)
                shutil.rmtree(kept(run.out), ignore_errors=True)
                copy.rename(kept(run.out))
            finish(run)

        UnfinishedRun.finish = keeping  # type: ignore[method-assign,assignment]  # here alone
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            status = hw_targets.app.cli.main(command)
    finally:
        os._exit(status)


def kept(out: Path) -> Path:
    """Where a run's last checkpoint is kept."""
    return out.with_name(f"{out.name}.last")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(folder: Path, *, kills: int, terminations: int, commands: int, names: Sequence[str], seed: int) -> Counts:
    """Disturb as many times as asked, the named recipes in turn."""
    bench = Bench(folder, random.Random(seed))
    counts = bench.counts
    while numbers := [signal.SIGKILL] * (kills - counts.kills) + [signal.SIGTERM] * (
        terminations - counts.terminations
    ):
        name = names[counts.runs_gone_on_with % len(names)]
        bench.train(name, bench.draw.sample(numbers, min(6, len(numbers))))
    while counts.commands_killed < commands:
        bench.disturb_command(COMMANDS[bench.draw.randrange(len(COMMANDS))])
    return counts


def _in_a_folder_of_its_own(job: dict[str, Any]) -> Counts:
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), **job)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and write the counts; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks.crashes", description="kill runs at random")
    for name, default in (("kills", 100), ("terminations", 20), ("commands", 100), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=RESULTS / "crashes.json", help="default: %(default)s")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES), help="default: all")
    parser.add_argument("--jobs", type=int, default=2, help="at once (default: %(default)s)")
    options = parser.parse_args(arguments)
    asked = {"kills": options.kills, "terminations": options.terminations, "commands": options.commands}
    jobs = [
        {name: (number + job) // options.jobs for name, number in asked.items()}
        | {"names": options.recipes, "seed": options.seed + job}
        for job in range(options.jobs)
    ]
    # Forked, too: none of these processes trains anything itself.
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        counts = sum(pool.map(_in_a_folder_of_its_own, jobs), Counts())
    report = {
        "seeds": [job["seed"] for job in jobs],
        "commit": commit(),
        "versions": versions(),
        "counts": asdict(counts),
    }
    write_new(options.out, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode(), overwrite=True)
    print(json.dumps(asdict(counts), indent=1))
    return 1 if counts.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
