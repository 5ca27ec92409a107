"""The benchmark as a smoke run, and its judgement of numbers. Oracles: the list of rows asked for, arithmetic by hand,
RecBole's own loss of the same weights and samples (where HARNESS_RECBOLE_PYTHON names a Python that has RecBole).

How fast it is depends on the machine, so no test looks at that.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from importlib import util

import pytest
import torch

from harness.bench.peer import started_peer
from harness.bench.recbole_peer import (
    RecBole,
    recbole_sizes,
    recbole_weights,
    sample_arrays,
    sample_loss,
    started_recbole,
)
from harness.bench.rows import Rival, Row, Spread
from harness.bench.workload import QUICK, Setup, Workload
from harness.cli import bench as command
from harness.data.dataset import Sequences
from harness.data.open import Source, open_dataset
from harness.errors import StageError
from harness.nn.encoder import pack
from harness.sequence.sasrec import SASREC

ROWS = {
    "ETEGRec recommender training": "samples/s",
    "tokenizer epoch step": "samples/s",
    "beam-20 evaluation": "users/s",
    "RQ-VAE pre-training": "samples/s",
    "SASRec training": "samples/s",
    "SASRec full ranking": "users/s",
    "peak memory": "MiB",
}
T5 = {
    "ETEGRec recommender training": ["T5, random batches", "T5, batches by length"],
    "beam-20 evaluation": ["generate, random batches", "generate, users by length"],
    "peak memory": ["transformers"],
}
RECBOLE = ("SASRec training", "SASRec full ranking", "peak memory")
PYTHON = os.environ.get("HARNESS_RECBOLE_PYTHON") or (sys.executable if util.find_spec("recbole") else None)
needs_recbole = pytest.mark.skipif(PYTHON is None, reason="RecBole is not installed; set HARNESS_RECBOLE_PYTHON")


def test_a_quick_run_measures_every_part_and_the_peer(tmp_path):
    pytest.importorskip("transformers")
    # A process of its own: the command changes the threads and the allocator for good.
    line = [
        sys.executable,
        "-m",
        "harness",
        "bench",
        "--quick",
        "--rows",
        "core",
        "--json",
        "--threads",
        "1",
        "--peer-batch",
        "10",
    ]
    without = {name: value for name, value in os.environ.items() if name != "HARNESS_RECBOLE_PYTHON"}
    ended = subprocess.run(
        [*line, "--repeats", "2"], cwd=tmp_path, capture_output=True, text=True, env=without, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert {row["what"]: row["unit"] for row in found["rows"]} == ROWS
    assert all(0 < row["ours"]["min"] <= row["ours"]["median"] <= row["ours"]["max"] for row in found["rows"])
    for row in found["rows"]:
        peers = [peer for peer in row["peers"] if peer["name"] != "RecBole"]
        assert [peer["name"] for peer in peers] == T5.get(row["what"], [])
        assert all(peer["min"] <= peer["median"] <= peer["max"] and peer["ratio"] > 0 for peer in peers)
        recbole = [peer for peer in row["peers"] if peer["name"] == "RecBole"]
        assert len(recbole) == (row["what"] in RECBOLE)
        if not util.find_spec("recbole"):
            assert all(peer["missing"] == "RecBole is not installed" for peer in recbole)
    assert all(row["reached"] is None for row in found["rows"])  # the aims are for the paper's sizes
    assert any("pieces of 10" in note for note in found["notes"])
    assert found["repeats"] == 2


def test_without_peers_one_line_says_so_and_the_table_tells_what_is_not_installed(harness, monkeypatch):
    measured = []

    def measure(setup, report):
        measured.append(setup)
        missing = Rival("RecBole", None, "RecBole is not installed")
        return [Row("SASRec training", "samples/s", Spread(9e3, 8e3, 1e4), (missing,))]

    monkeypatch.setattr("harness.bench.measure.measure", measure)
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    monkeypatch.delenv("HARNESS_RECBOLE_PYTHON", raising=False)
    ended = harness("bench", "--quick", "--rows", "core")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "note: the peer T5 is left out, for transformers is not installed; pip install 'etegrec-harness[bench]'"
    ]
    assert [(setup.with_peer, setup.recbole_python) for setup in measured] == [(False, None)]
    assert "RecBole is not installed" in ended.out
    assert "8,000 to 10,000" in ended.out
    assert "transformers" not in ended.out


def test_a_python_without_recbole_is_refused_with_the_way_to_install_it(harness, tmp_path):
    error = harness("bench", "--quick", "--recbole-python", str(tmp_path / "none")).error
    assert "pip install recbole==1.2.1 'numpy<2'" in error


def test_rows_that_are_not_measured_are_refused(harness):
    error = harness("bench", "--quick", "--rows", "core,gru4rek").error
    assert "--rows names 'gru4rek'" in error
    assert "did you mean 'gru4rec'?" in error
    assert "--rows must name a row at least" in harness("bench", "--rows", ",").error


def test_notes_tell_how_samples_are_counted_where_such_rows_are_measured(tmp_path):
    told = command.notes(Setup(tmp_path, 2, with_peer=False, rows=("bert4rec", "hstu")))
    assert any("a sample is a predicted target" in note for note in told)
    assert any("operations:" in note for note in told)
    assert not any("RecBole's SASRec" in note for note in told)
    assert command.notes(Setup(tmp_path, 2, QUICK, with_peer=False, rows=("core",)))[1:] == [command.SMALL]


@needs_recbole
def test_recbole_computes_our_loss_and_trains_and_ranks_the_same_samples(ratings, tmp_path):
    setup = Setup(open_dataset(Source(str(ratings)), tmp_path / "cache"), 1, QUICK, recbole_python=PYTHON)
    workload = Workload(setup)
    network = SASREC.new(QUICK.sasrec, workload.dataset, workload.context).network.eval()
    batch = sample_arrays(workload, 3, 100)
    assert batch["items_BS"].shape == (100, workload.dataset.max_history)
    with started_recbole(setup, workload) as recbole:
        assert recbole("loss", batch) == pytest.approx(sample_loss(network, batch), rel=1e-5)
        assert recbole("training", batch) > 0
        assert recbole("loss", batch) != pytest.approx(sample_loss(network, batch), rel=1e-5)  # it has learnt
        assert recbole("ranking", {name: batch[name] for name in ("items_BS", "lengths_B", "k")}) > 0
        with pytest.raises(StageError, match="must do 'ranking', but failed: ValueError"):
            recbole("ranking", {})


@needs_recbole
def test_recbole_makes_our_training_step(ratings, tmp_path):
    config = QUICK.sasrec.replace(dropout=0.0)  # so that nothing is random
    setup = Setup(open_dataset(Source(str(ratings)), tmp_path / "cache"), 1, QUICK, recbole_python=PYTHON)
    workload = Workload(setup)
    network = SASREC.new(config, workload.dataset, workload.context).network
    stream = torch.Generator().manual_seed(0)
    for parameter in network.parameters():  # larger than at the start, so that every part matters
        torch.nn.init.normal_(parameter, std=0.3, generator=stream)
    batch = sample_arrays(workload, 3, 100)
    with started_recbole(setup, workload) as recbole:
        recbole("start", recbole_weights(network), sizes=recbole_sizes(network, config), threads=1)
        before = sample_loss(network, batch)
        assert recbole("loss", batch) == pytest.approx(before, rel=1e-5)
        recbole("training", batch)
        rows = Sequences.from_rows([row[row > 0].tolist() for row in batch["items_BS"]])
        packed = pack(rows, torch.device("cpu"))
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        logits = network(packed, packed.ends_B) @ network.item_rows_VD.T
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch["targets_B"])).backward()
        optimizer.step()
        after = sample_loss(network, batch)
        assert after < before - 0.004
        assert recbole("loss", batch) == pytest.approx(after, rel=1e-5)


@needs_recbole
def test_a_recbole_whose_loss_is_another_is_refused(ratings, tmp_path, monkeypatch):
    folder = open_dataset(Source(str(ratings)), tmp_path / "cache")
    setup = Setup(folder, 1, QUICK, recbole_python=PYTHON)
    monkeypatch.setattr("harness.bench.recbole_peer.sample_loss", lambda network, arrays: 1.0)
    with pytest.raises(StageError, match="loss must be ours"), started_recbole(setup, Workload(setup)):
        pass


def test_a_recbole_process_that_ends_is_told(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", "raise SystemExit(3)"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process, pytest.raises(StageError, match="exit code 3"):
        RecBole(process, tmp_path)("loss")


def test_a_peer_that_dies_is_told_with_a_remedy(ratings, tmp_path):
    pytest.importorskip("transformers")
    folder = open_dataset(Source(str(ratings)), tmp_path / "cache")
    with started_peer(Setup(folder, threads=1, sizes=QUICK)) as peer:
        assert peer("random training", 0) > 0
        (process,) = multiprocessing.active_children()
        process.kill()
        process.join()
        with pytest.raises(StageError, match=r"ended \(exit code -9\).*--peer-batch 64"):
            peer("random training", 1)


def test_an_aim_is_reached_by_the_number_and_by_the_ratio():
    fast = Row("beam-20 evaluation", "users/s", Spread(80.0, 70.0, 95.0), peers(10.0, 40.0), aim=60, aim_ratio=4)
    assert ([fast.ratio(rival) for rival in fast.rivals], fast.reached) == ([8.0, 2.0], True)
    assert fast._replace(rivals=peers(40.0)).reached is False
    assert fast._replace(ours=Spread(59.0, 1.0, 99.0)).reached is False
    assert fast._replace(rivals=()).reached is True
    unjudged = fast._replace(rivals=(Rival("RecBole", None, "RecBole is not installed"),), aim=None)
    assert unjudged.reached is None
    small = Row("peak memory", "MiB", Spread(1000.0, 1000.0, 1000.0), peers(4000.0), aim=1536)
    assert (small.ratio(small.rivals[0]), small.reached) == (4.0, True)
    assert small._replace(ours=Spread(1537.0, 1.0, 1.0)).reached is False


def test_a_spread_is_the_median_and_the_ends():
    assert Spread.of([5.0, 1.0, 9.0, 2.0]) == (3.5, 1.0, 9.0)


def test_the_table_shows_aims_and_ratios(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "110")
    row = Row("beam-20 evaluation", "users/s", Spread(80.0, 70.0, 95.0), peers(10.0), aim=60, aim_ratio=4)
    command._print("demo", Setup(tmp_path, 2), [row])
    ours, theirs = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [cell.strip() for cell in ours[1:-1]] == [
        "beam-20 evaluation, users/s",
        "80.0",
        "70.0 to 95.0",
        "",
        "≥ 60",
        "yes",
    ]
    assert [cell.strip() for cell in theirs[1:-1]] == ["peer 0", "10.0", "", "8 ×", "≥ 4 ×", ""]


def peers(*medians):
    return tuple(Rival(f"peer {place}", Spread(median, median, median)) for place, median in enumerate(medians))
