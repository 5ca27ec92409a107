"""A small search space, and every sequence's score without cache, trie or beam."""

import numpy as np
import torch
from torch import Tensor

from harness.nn.code_seq2seq import CodeSeq2Seq, EncodedHistories
from harness.nn.ragged import Ragged
from harness.nn.t5 import T5Config

SIZES = (6, 5, 4, 3)
NUM_ITEMS = 60
SMALL = T5Config(d_model=16, d_ff=32, num_heads=2, d_head=8, encoder_layers=2, decoder_layers=2, num_buckets=8)


def unique_codes(count: int, seed: int) -> Tensor:
    """(count + 1, L): a padding row and `count` different sequences."""
    everything = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    rows = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))[:count]
    return torch.cat([torch.zeros(1, len(SIZES), dtype=torch.long), everything[rows]])


@torch.inference_mode()
def exhaustive_scores(model: CodeSeq2Seq, encoded: EncodedHistories, sequences_NL: Tensor) -> Tensor:
    """(B, N): the log-probability of each sequence for each user, without cache, trie or beam."""
    scores = []
    for states_SD in encoded.states_ND.split(encoded.rows.lengths.tolist()):
        rows = Ragged.of(np.full(len(sequences_NL), len(states_SD)), states_SD.device)
        states_NLD = model.teacher_forced(EncodedHistories(states_SD.repeat(len(sequences_NL), 1), rows), sequences_NL)
        per_level = [
            model.logits_at(states_NLD[:, level], level).log_softmax(-1).gather(1, sequences_NL[:, level, None])
            for level in range(len(SIZES))
        ]
        scores.append(torch.cat(per_level, dim=1).sum(1))
    return torch.stack(scores)
