"""Times Lava's simulator in a process of its own: `python -m examples.benchmarks.lava_steps FILE.net INPUT.npy`.

Lava is imported and the network compiled first (by a run of one step); then "ready" is printed, and every line with a
number of steps that arrives on standard input is answered with the seconds that stepping took.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TextIO

import numpy as np

from hw_targets.targets.loihi.lava.runner import UNAVAILABLE, _import_lava, _message_bits


def main(path: str, input_path: str, time_steps: str) -> int:
    """Serve until standard input ends."""
    # Lava prints; what it says must not mix with the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        lava = _import_lava()
    except ImportError as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    image = np.load(input_path)
    net = lava.Network(path, input_message_bits=_message_bits(path), reset_interval=int(time_steps), reset_offset=1)
    # Lava's arrays are (W, H, C, time); its source starts over at the end of the buffer.
    source = lava.Source(data=np.ascontiguousarray(image.T[..., None].astype(np.int32)))
    source.s_out.connect(net.inp)
    try:
        _serve(lava, net, answers)
    finally:
        net.stop()
    return 0


def _serve(lava: Any, net: Any, answers: TextIO) -> None:
    def step(steps: int) -> float:
        start = time.perf_counter()
        net.run(condition=lava.RunSteps(num_steps=steps), run_cfg=lava.Loihi2SimCfg(select_tag="fixed_pt"))
        return time.perf_counter() - start

    step(1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(step(int(line)), file=answers, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
