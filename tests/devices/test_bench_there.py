"""The benchmark of a GPU at small sizes, in bf16. Oracle: the rows that a CPU has."""

import json
import os
import subprocess
import sys
from pathlib import Path

from test_on_stand_in import needs_torch

from harness.testing.planted import prepared

HERE = Path(__file__).parent
BESIDE_RECBOLE = ("GRU4Rec", "FDSA", "BERT4Rec", "S3-Rec", "Caser", "HGN")


@needs_torch
def test_all_rows_and_the_peer_are_measured_there(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "bench_on_stand_in.py"), str(folder)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["kernels"] > 5_000
    assert all(rate > 0 for rate in found["peer"])
    units = {what: unit for what, (unit, median) in found["rows"].items() if median > 0}
    assert units == {
        "ETEGRec recommender training": "samples/s",
        "tokenizer epoch step": "samples/s",
        "beam-20 evaluation": "users/s",
        "RQ-VAE pre-training": "samples/s",
        "SASRec training": "samples/s",
        "SASRec full ranking": "users/s",
        "peak memory": "MiB",
        "S3-Rec pre-training": "samples/s",
        **{f"{title} training": "samples/s" for title in (*BESIDE_RECBOLE, "HSTU", "eSASRec", "BSARec")},
        **{f"{title} full ranking": "users/s" for title in BESIDE_RECBOLE},
    }
