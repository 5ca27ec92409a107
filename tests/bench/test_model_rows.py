"""Rows of item-scoring methods. Oracles: RecBole's own count of samples and of parameters, BSARec's states and loss,
operations and files worked out by hand. How fast anything is depends on the machine, so no test looks at that."""

import os
import sys
from dataclasses import replace
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.bsarec import BSAREC, BSARecConfig
from harness.bench.bsarec_reference import PlainBSARec, left_padded
from harness.bench.model_rows import model_rows
from harness.bench.rates import Training
from harness.bench.recbole_models import MODELS, started_model, write_atomic_files
from harness.bench.workload import ALL_ROWS, CORE, FEATURES, QUICK, Setup, Workload
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.data.open import Source, open_dataset
from harness.errors import StageError
from harness.interfaces import FitContext
from harness.nn.encoder import pack
from harness.nn.kernels import products
from harness.sequence.losses import linear_cross_entropy

PYTHON = os.environ.get("HARNESS_RECBOLE_PYTHON") or (sys.executable if util.find_spec("recbole") else None)
needs_recbole = pytest.mark.skipif(PYTHON is None, reason="RecBole is not installed; set HARNESS_RECBOLE_PYTHON")
ROWS = [[3, 1, 4], [1, 2], [5, 6, 2, 6, 5, 3]]
RATED = {
    "GRU4Rec training",
    "GRU4Rec full ranking",
    "S3-Rec pre-training",
    "S3-Rec training",
    "S3-Rec full ranking",
    "eSASRec training",
    "BSARec training",
}


def made_up_dataset(longest=8):
    sequences = Sequences.from_rows(ROWS)
    features = {"kind": (("p", "q"), (), ("r",), ("q",), ("p",), ("r", "p")), "maker": tuple(("x",) for _ in range(6))}
    cases = EvalCases(sequences, np.ones(3, dtype=np.int32))
    return Dataset("made-up", "0", Catalog(tuple("abcdef"), None, features), sequences, cases, longest)


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    rows = [f"u{user},i{(user + step * (1 + user % 3)) % 13},5.0,{step}" for user in range(40) for step in range(6)]
    (folder / "tiny.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]) + "\n")
    folder = open_dataset(Source(str(folder / "tiny.csv")), folder / "cache")
    return Setup(folder, threads=torch.get_num_threads(), sizes=QUICK, repeats=1)


def test_rows_without_recbole_are_ours_and_say_what_is_missing(setup):
    told = []
    chosen = replace(setup, rows=("gru4rec", "s3-rec", "esasrec", "bsarec"))
    rows = {row.what: row for row in model_rows(Workload(chosen), told.append)}
    assert set(rows) == set(told) == RATED
    for row in rows.values():
        assert row.ours.least > 0
        assert [rival.missing for rival in row.rivals] in ([""], ["RecBole is not installed"])
    implied = rows["eSASRec training"]
    assert implied.aim == pytest.approx(implied.rivals[0].spread.median * implied.aim_ratio)


def test_every_name_is_core_or_a_method_of_the_rows():
    names = {one.method.name for one in MODELS} | {"hstu", "esasrec", "bsarec"}
    assert set(ALL_ROWS) == names | {CORE}


# GRU4Rec in each run; the others take a process of RecBole's each.
@needs_recbole
@pytest.mark.parametrize(
    "one",
    [pytest.param(one, marks=[pytest.mark.slow] * (number > 0), id=one.title) for number, one in enumerate(MODELS)],
)
def test_recboles_model_has_our_parameters_and_samples_and_trains(one, setup):
    workload = Workload(replace(setup, recbole_python=PYTHON))
    config = one.config(tiny=True)
    with started_model(one, config, workload) as recbole:
        ours = sum(
            each.numel()
            for each in one.model.new(config, workload.with_features, workload.context).network.parameters()
        )
        if one.theirs == "S3Rec":  # of the heads and attributes of the first stage
            heads = Training.of_first_stage(config, workload.with_features, workload).model
            ours = sum(each.numel() for each in heads.parameters())
        if one.theirs in ("Caser", "HGN"):
            ours += config.embedding_size  # RecBole has a row for a padded user,
        if one.theirs == "HGN":
            ours += 2 * config.embedding_size  # and three biases that are added up, where we have one
        assert recbole("parameters") == ours
        assert recbole("training") > 0
        if not one.pretrains:
            assert recbole("ranking", {"k": np.array(5)}) > 0


@needs_recbole
def test_a_recbole_that_learns_from_other_samples_is_refused(setup):
    workload = Workload(replace(setup, recbole_python=PYTHON))
    workload.samples = []
    one = MODELS[0]
    with (
        pytest.raises(StageError, match="must learn from our 0 samples"),
        started_model(one, one.config(tiny=True), workload),
    ):
        pass


def test_atomic_files_hold_each_sequence_in_order_with_two_items_after_it(tmp_path):
    write_atomic_files(made_up_dataset(), tmp_path, FEATURES)
    lines = (tmp_path / "bench.inter").read_text().splitlines()
    assert lines[0] == "user_id:token\titem_id:token\ttimestamp:float"
    rows = [line.split("\t") for line in lines[1:]]
    found = [[int(item) for user, item, _ in rows if int(user) == number] for number in range(3)]
    assert found == [[3, 1, 4, 1, 2], [1, 2, 3, 4], [5, 6, 2, 6, 5, 3, 5, 6]]
    assert [int(place) for user, _, place in rows if user == "1"] == [0, 1, 2, 3]
    items = (tmp_path / "bench.item").read_text().splitlines()
    assert items[:3] == ["item_id:token\tkind:token_seq\tmaker:token", "1\tp q\tx", "2\t\tx"]
    assert len(items) == 7
    write_atomic_files(made_up_dataset(), tmp_path, {})
    assert (tmp_path / "bench.item").read_text().splitlines() == ["item_id:token", *map(str, range(1, 7))]


def test_operations_are_those_of_the_products_of_a_step_for_each_target():
    left, right, added = torch.ones(2, 3), torch.ones(3, 5), torch.zeros(2, 5)

    def step():
        (left @ right).sum()  # 2 · 2 · 3 · 5
        added.addmm_(left, right)  # the same
        return 4

    assert Training(step, torch.nn.Identity()).operations() == 2 * 60 / 4


@torch.no_grad()
def test_the_plain_bsarec_has_our_states_and_loss_with_copied_weights():
    config = BSARecConfig(hidden_size=6, num_heads=2, cutoff=3, alpha=0.3, legacy_pad=True)
    network = BSAREC.new(config, made_up_dataset(), FitContext(0, Path())).network.eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    plain = PlainBSARec.like(network.state_dict(), config).eval()
    histories, targets = Sequences.from_rows(ROWS), torch.tensor([2, 6, 1])
    packed = pack(histories, torch.device("cpu"))
    items = left_padded(histories, 8)
    assert items[1].tolist() == [0, 0, 0, 0, 0, 0, 1, 2]
    states = network(packed, packed.ends_B)
    torch.testing.assert_close(plain(items), states, rtol=1e-5, atol=1e-5)
    loss = linear_cross_entropy(states, network.item_rows_VD, targets) / 3
    torch.testing.assert_close(plain.loss(items, targets), loss, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not products.HAS_ONEDNN, reason="this torch has no oneDNN")
def test_operations_of_products_by_onednn_are_counted():
    table, rows = torch.zeros(2**14, 32), torch.zeros(100, 32)

    def step():
        products.scores_of_all(rows, table, torch.empty(100, 2**14))
        products.weighted_rows(torch.zeros(100, 2**14), table, torch.empty(100, 32))
        return 100

    assert Training(step, torch.nn.Identity()).operations() == 2 * 2 * 32 * 2**14
