"""The benchmark of a GPU at small sizes, in bf16. Oracle: the rows that a CPU has."""

from pathlib import Path

from test_on_stand_in import needs_torch
from there import told_there

from harness.testing.planted import prepared

BESIDE_RECBOLE = ("GRU4Rec", "FDSA", "BERT4Rec", "S3-Rec", "Caser", "HGN")


@needs_torch
def test_all_rows_and_the_peer_are_measured_there(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    found = told_there("bench_on_stand_in.py", str(folder))
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
