"""Runs as tasks of Ray, on one machine or many, in place of a pool of processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from neuroprune._require import require

#: Times a task is begun again whose worker died, as of a machine that was taken away.
RETRIES = 3
#: Workers import this program from here: on several machines it must lie in the same place on each.
_ROOT = Path(__file__).parents[3]


class RayTasks(Executor):
    """Tasks of one core each. A task whose worker dies is begun again, on any machine that is left.

    Args:
        jobs: tasks at a time, where no cluster is named by the environment's RAY_ADDRESS, which knows its own cores.
        retries: see `RETRIES`.

    Raises:
        ImportError: Ray is not installed.
    """

    def __init__(self, jobs: int, retries: int = RETRIES) -> None:
        self._ray = require("ray", "ray")
        self._retries = retries
        paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        here = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": jobs, "include_dashboard": False}
        self._ray.init(log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": paths}}, **here)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Begin a task; its future raises what the task raised, or BrokenProcessPool where every worker of it died."""
        result: Future[Any] = Future()
        result.set_running_or_notify_cancel()
        task = self._ray.remote(num_cpus=1, max_retries=self._retries)(fn).remote(*args, **kwargs)
        task.future().add_done_callback(lambda done: self._tell(result, done))
        return result

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 (Executor's own)
        """Leave the cluster; a local one ends."""
        self._ray.shutdown()

    def _tell(self, result: Future[Any], done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            result.set_result(done.result())
        elif isinstance(error, self._ray.exceptions.RayTaskError):
            result.set_exception(error.cause)
        else:
            result.set_exception(BrokenProcessPool(f"a worker of Ray died {self._retries + 1} times: {error}"))
