"""Runs the benchmark's rows and its peer T5 at small sizes on the stand-in for a GPU: python bench_on_stand_in.py DATA

Prints what was measured, in bf16; the numbers mean nothing.
"""

import json
import sys
from pathlib import Path

import autocast_lists
import fused
from stand_in_gpu import StandInGpu

from harness.bench.measure import measure
from harness.bench.peer import Twin
from harness.bench.workload import QUICK, Setup, Workload


def main(folder: Path) -> None:
    """Prints each row's unit and median, and the peer's rates."""
    setup = Setup(folder, 1, QUICK, with_peer=False, repeats=1, device="gpu:0", precision="bf16")
    gpu = StandInGpu()
    with gpu, fused.installed(gpu), autocast_lists.registered():
        rows = measure(setup, lambda what: None)
        twin = Twin(Workload(setup))
        peer = [twin.bucketed_training_rate(0), twin.sorted_evaluation_rate(0)]
    found = {row.what: [row.unit, row.ours.median] for row in rows}
    print(json.dumps({"rows": found, "peer": peer, "kernels": sum(gpu.kernels.values())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
