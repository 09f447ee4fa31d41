"""Working through the missing runs, one process each."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from examples.benchmarks.frontier import store
from examples.benchmarks.frontier.plan import missing, ready
from examples.benchmarks.frontier.run import Unit, run_unit
from examples.benchmarks.frontier.store import Record
from hw_targets.app.versions import commit, versions


def sweep(
    wanted: Sequence[Unit],
    path: Path,
    executor: Executor,
    jobs: int,
    *,
    work: Callable[[Unit], Record] = run_unit,
    say: Callable[[str], None] = print,
) -> None:
    """Run what `wanted` lacks in the results file, `jobs` at a time; each finished run adds its line at once.

    A run that raises ends the sweep after the lines of the others in flight are written; KeyboardInterrupt ends it at
    once. Either way the file is whole, and the next sweep goes on from there.
    """
    records = store.read(path)
    made_with = {"versions": versions(), "commit": commit()}
    in_flight: dict[Future[Record], Unit] = {}
    begun, failure = time.perf_counter(), None
    while True:
        if failure is None:
            free = jobs - len(in_flight)
            for unit in ready(wanted, records, list(in_flight.values()))[: max(0, free)]:
                in_flight[executor.submit(work, unit)] = unit
        if not in_flight:
            break
        for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
            unit = in_flight.pop(future)
            if (error := future.exception()) is not None:
                failure = failure or error
                continue
            record = {**future.result(), **made_with}
            store.append(path, record)
            records.append(record)
            say(_line(record, len(missing(wanted, records)), time.perf_counter() - begun))
    if failure is not None:
        raise failure


@contextmanager
def processes(jobs: int) -> Any:
    """A pool of fresh processes with one torch thread each; on an interrupt they are ended, not waited for."""
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_worker)
    try:
        yield pool
    except BaseException:
        # Python 3.14 has terminate_workers(); before it there is no public way to end a run that is under way.
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        raise
    pool.shutdown()


def _prepare_worker() -> None:
    # Ctrl-C reaches every process of the terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _line(record: Record, left: int, elapsed: float) -> str:
    what = f"{record['model']} {record['method']} {record['target']:.0%} seed {record['seed']}"
    if record["kind"] == "calibration":
        what += f" calibration, {record['knob']:.3g}"
    measured = record.get("error") or f"sparsity {record['sparsity']:.4f}"
    if "validation_accuracy" in record:
        measured += f", validation {record['validation_accuracy']:.4f}, test {record['test_accuracy']:.4f}"
    return f"{elapsed:7.0f} s  {what}: {measured} ({record['seconds']:.1f} s); {left} cells to go"
