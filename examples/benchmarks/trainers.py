"""Training loops × {exact, refused}: torch, Lightning, Accelerate, transformers, schedulefree, sharding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from examples.benchmarks.common import Goal, Report, Result, one_thread, summarize
from examples.benchmarks.trainer_cases import fsdp2, loops, sharded
from examples.benchmarks.trainer_cases.reference import Verdict

PACKAGES = ("torch", "lightning", "accelerate", "transformers", "schedulefree")
METHOD = (
    "24 steps of AdamW under a cosine, LATS, in each loop; exact: weights, latent values, threshold and the optimizer's"
    " state are bit for bit those of the same loop written by hand without a pruner, and on several processes (gloo)"
    " the weights are the same on all of them after every step. refused: before the first step, with the reason."
)


@dataclass(frozen=True)
class Case:
    """A loop in one process."""

    name: str
    package: str
    expected: str
    run: Callable[[], Verdict]


LOOPS = (
    Case("a plain loop", "torch", "exact", loops.torch_loop),
    Case("a plain loop, resumed", "torch", "exact", loops.torch_resumed),
    Case("bfloat16 autocast and GradScaler", "torch", "exact", loops.torch_bfloat16),
    Case("a compiled optimizer step", "torch", "exact", loops.torch_compiled),
    Case("EMA (AveragedModel) with keep_zeros", "torch", "exact", loops.averaged),
    Case("Trainer, PruningCallback", "lightning", "exact", loops.lightning),
    Case("Trainer, PruningCallback, resumed", "lightning", "exact", loops.lightning_resumed),
    Case("Trainer, PruningCallback", "transformers", "exact", loops.transformers),
    Case("Trainer, PruningCallback, resumed", "transformers", "exact", loops.transformers_resumed),
    Case("prepared, the optimizer inside", "accelerate", "exact", loops.accelerate),
    Case("gradients accumulated", "accelerate", "exact", loops.accelerate_accumulated),
    Case("register_for_checkpointing, resumed", "accelerate", "exact", loops.accelerate_resumed),
    Case("AcceleratedOptimizer itself", "accelerate", "refused", loops.accelerated_optimizer),
    Case("AcceleratedScheduler to plan with", "accelerate", "refused", loops.accelerated_scheduler),
    *(
        Case(name, "schedulefree", "refused", lambda name=name: loops.schedule_free(name))  # type: ignore[misc] # name is text
        for name in (
            *("AdamWScheduleFree", "SGDScheduleFree", "RAdamScheduleFree", "ScheduleFreeWrapper"),
            "inside ScheduleFreeWrapper",
        )
    ),
)
#: Name of a case in `sharded`: how it is called, the package, what is expected.
SHARDED: Mapping[str, tuple[str, str, str]] = {
    "ddp": ("DistributedDataParallel", "torch", "exact"),
    "accelerate ddp": ("prepared, DistributedDataParallel", "accelerate", "exact"),
    "zero": ("ZeroRedundancyOptimizer", "torch", "exact"),
    "zero, bucket views": ("ZeroRedundancyOptimizer, bucket views", "torch", "refused"),
    "fsdp1": ("FSDP1", "torch", "refused"),
    "fsdp1, use_orig_params": ("FSDP1, use_orig_params", "torch", "refused"),
    **{key: (name, "torch", wanted) for key, (name, wanted, _) in fsdp2.CASES.items()},
    "fsdp2 after the pruner": ("FSDP2, the pruner attached before", "torch", "refused"),
    "tensor parallel": ("tensor parallel (DTensor)", "torch", "refused"),
    "flattened": ("one row of all weights, as DeepSpeed's ZeRO", "torch", "refused"),
}


def run(*, quick: bool = False) -> Report:
    """All cases; a quick run leaves out four processes."""
    counts = (2,) if quick else (2, 4)
    used = {name: version(name) for name in PACKAGES if find_spec(name) is not None}
    report = Report("trainers", quick, {"processes": list(counts), "versions": used}, METHOD)
    with one_thread():
        rows = [_row(case.name, case.package, 1, case.expected, case.run()) for case in LOOPS if case.package in used]
    possible = {key: case for key, case in SHARDED.items() if case[1] in used}
    for count in counts:
        verdicts = sharded.on_processes(list(possible), count)
        rows += [_row(name, package, count, wanted, verdicts[key]) for key, (name, package, wanted) in possible.items()]
    report.skipped |= {name: "not installed" for name in PACKAGES if name not in used}
    report.values["trainers"] = rows
    for status in ("exact", "refused"):
        found = sum(row["status"] == status for row in rows)
        report.results.append(Result(status, f"training loops: {status}", summarize([found])))
    wrong = sum(row["status"] not in ("exact", "refused") for row in rows)
    report.results.append(Result("wrong", "training loops: neither exact nor refused", summarize([wrong]), Goal(0)))
    return report


def _row(name: str, package: str, processes: int, expected: str, verdict: Verdict) -> dict[str, Any]:
    row = {"name": name, "package": package, "processes": processes, "status": verdict.status}
    return {**row, "expected": expected, "message": verdict.message}


def markdown(report: Mapping[str, Any]) -> str:
    """One row for each loop, its numbers of processes together."""
    versions = report["parameters"]["versions"]
    together: dict[tuple[str, str, str], list[int]] = {}
    for row in report["values"]["trainers"]:
        together.setdefault((row["package"], row["name"], row["status"]), []).append(row["processes"])
    lines = ["| package | loop | processes | |", "|:--|:--|--:|:--|"]
    lines += [
        f"| {package} {versions[package]} | {name} | {_listed(counts)} | {status} |"
        for (package, name, status), counts in sorted(together.items(), key=lambda item: PACKAGES.index(item[0][0]))
    ]
    return "\n".join(lines)


def _listed(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts))
