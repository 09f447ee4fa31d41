"""`python -m examples.benchmarks.frontier [run|table|plot]`: accuracy against sparsity, method by method.

`run` trains what the results file lacks and prints the table; interrupt it whenever you like, it goes on from there.
`table` and `plot` make table and figure from the file alone.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from examples.benchmarks.common import RESULTS
from examples.benchmarks.frontier import store
from examples.benchmarks.frontier.methods import METHODS
from examples.benchmarks.frontier.plan import missing, wanted_cells
from examples.benchmarks.frontier.plot import plot
from examples.benchmarks.frontier.ray_tasks import RayTasks
from examples.benchmarks.frontier.store import ResultsError
from examples.benchmarks.frontier.sweep import processes, sweep
from examples.benchmarks.frontier.table import markdown
from examples.benchmarks.frontier.tasks import TASKS
from neuroprune.training.data.base import DatasetNotFound

TARGETS = (0.80, 0.90, 0.95, 0.98, 0.99)
FILES = {size: "frontier.jsonl" if size == "full" else f"frontier_{size}.jsonl" for size in TASKS}

SIZES = "quick: SGD, two CPU cores; adamw and finetune: the same with AdamW, trained networks; full: SGD, a GPU"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 if the results file, the images or a package cannot be used; 130 if interrupted."""
    options = _parser().parse_args(arguments)
    path: Path = options.out or RESULTS / FILES[options.size]
    try:
        if options.action == "run":
            _run(options, path)
        if options.action in ("run", "table"):
            print(markdown(store.read(path)))
        if options.action in ("run", "plot"):
            figure = path.with_suffix(".png")
            plot(store.read(path), figure)
            print(f"→ {figure}")
    except ResultsError as error:
        print(f"{path}: {error}" if str(path) not in str(error) else error, file=sys.stderr)
        return 1
    except (DatasetNotFound, ImportError) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenProcessPool:
        print(
            f"a worker died (out of memory?); {path} holds what is finished, run again, perhaps with fewer --jobs",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; {path} holds what is finished, run again to go on", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace, path: Path) -> None:
    models = [name for name in TASKS[options.size] if name in (options.models or TASKS[options.size])]
    wanted = wanted_cells(options.size, models, options.methods, options.sparsities, options.seeds)
    left = missing(wanted, store.read(path))
    print(f"{len(wanted)} cells, {len(left)} to go → {path}", flush=True)
    if left:
        # A polite kill ends the run as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        jobs = min(options.jobs, len(left))
        with RayTasks(jobs) if options.ray else processes(jobs) as pool:
            sweep(wanted, path, pool, options.jobs, say=lambda line: print(line, flush=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmarks.frontier",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models = sorted({name for tasks in TASKS.values() for name in tasks})
    parser.add_argument("action", nargs="?", default="run", choices=("run", "table", "plot"))
    parser.add_argument("--size", default="quick", choices=sorted(TASKS), help=SIZES)
    parser.add_argument("--jobs", type=_positive, default=1, help="runs at a time, one process and thread each")
    parser.add_argument(
        "--ray", action="store_true", help="tasks of Ray, of the cluster that RAY_ADDRESS names, if any"
    )
    parser.add_argument("--models", nargs="+", choices=models, help="default: all of the size")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--sparsities", nargs="+", type=_sparsity, default=list(TARGETS), help="per cent, 0 … 100")
    parser.add_argument("--seeds", nargs="+", type=_seed, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="results file (default: in examples/benchmarks/results)")
    return parser


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _seed(text: str) -> int:
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {value}")
    return value


def _sparsity(text: str) -> float:
    if not 0.0 < (value := float(text)) < 100.0:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 100 (per cent), both excluded, got {value}")
    return round(value / 100.0, 6)


if __name__ == "__main__":
    sys.exit(main())
