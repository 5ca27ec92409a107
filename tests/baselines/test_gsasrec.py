"""gSASRec. Oracles: the authors' form of the loss, a plain binary cross-entropy of changed scores; SASRec's network,
which has its own tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from baselines.gsasrec import GSASREC, METHOD, GSASRecConfig
from harness.data.dataset import Sequences
from harness.interfaces import FitContext
from harness.nn.encoder import pack
from harness.nn.sasrec import SASRec, SASRecSizes
from harness.sequence.losses import generalised_binary_cross_entropy
from harness.testing.planted import planted_dataset

CPU = torch.device("cpu")
SIZES = GSASRecConfig(hidden_size=8, inner_size=8, num_negatives=5)


def network(config=SIZES):
    return GSASREC.new(config, planted_dataset(), FitContext(0, Path())).network.eval()


@pytest.mark.parametrize("calibration", [0.25, 0.75, 1.0])
def test_gbce_is_the_authors_plain_cross_entropy_of_changed_scores(calibration):
    num_items, count = 400, 32
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(50, 1 + count, dtype=torch.float64, generator=generator) * 2
    share = count / (num_items - 1)
    beta = share * (calibration * (1 - 1 / share) + 1 / share)
    changed = -torch.log(torch.sigmoid(scores[:, 0]) ** -beta - 1)
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    logits = torch.cat([changed[:, None], scores[:, 1:]], dim=1)
    expected = F.binary_cross_entropy_with_logits(logits, labels)
    # States that are rows of the identity give each target its own scores.
    table = torch.cat([torch.zeros(1, 50), scores.T], dim=0).double()
    targets, negatives = torch.ones(50, dtype=torch.int64), torch.arange(2, 2 + count).expand(50, -1)
    found = generalised_binary_cross_entropy(
        torch.eye(50).double(), table, targets, negatives, num_items=num_items, calibration=calibration
    )
    assert found.item() / 50 == pytest.approx(expected.item(), abs=1e-6)


@torch.no_grad()
def test_states_are_those_of_sasrecs_original_form_and_candidates_have_rows_of_their_own():
    net = network()
    plain = SASRec(12, 50, SASRecSizes(style="original", hidden_size=8, inner_size=8, num_heads=1)).eval()
    shared = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("output_table")}
    plain.load_state_dict(shared)
    packed = pack(Sequences.from_rows([[1, 2, 3], [4]]), CPU)
    assert torch.equal(net(packed, packed.ends_B), plain(packed, packed.ends_B))
    assert not torch.equal(net.item_rows_VD, net.item_table.weight)
    tied = network(SIZES.replace(tied=True))
    assert tied.item_rows_VD is tied.item_table.weight


def test_the_loss_draws_256_items_for_each_target_of_a_users_latest_window():
    chosen = GSASREC.objective(METHOD.presets["paper"], planted_dataset())
    (drawn,) = chosen.draws.draw(np.zeros(3, dtype=np.int64), np.random.default_rng(0))
    assert drawn.shape == (3, 256)
    assert set(np.unique(drawn)) == set(range(1, 13))
    assert chosen.loss.keywords == {"num_items": 12, "calibration": 0.75}
    assert len(chosen.rows) == planted_dataset().num_users


def test_sizes_are_those_of_the_fact_sheet_and_declared():
    paper = METHOD.presets["paper"]
    assert (paper.num_negatives, paper.calibration, paper.batch_size, paper.patience) == (256, 0.75, 128, 200)
    assert (paper.num_layers, paper.num_heads, paper.tied) == (2, 1, False)
    assert len(METHOD.assumptions(paper)) == 1
