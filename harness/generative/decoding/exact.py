"""Exact decoding: the score of every item, so that the best ones are the true ones and no beam can miss any.

Shape legend: B users, S tokens, W nodes looked at at once, C their children, D width, K codes of a level, N items.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from harness.data.dataset import Sequences
from harness.distributed import ALONE, Group
from harness.generative.decoding.beam import parent_rows
from harness.generative.decoding.trie import Trie
from harness.nn.code_seq2seq import CodeSeq2Seq, length_groups, padding_bias
from harness.nn.t5 import Past

# Run at once, on all devices: more users would have more scores than memory holds, where items are many.
CHUNK_TOKENS = 2048  # history tokens
MAX_ROWS = 8192  # decoder positions (users x nodes)


@torch.inference_mode()
def exact_scores(
    model: CodeSeq2Seq,
    histories: Sequences,
    codes_NL: Tensor,
    trie: Trie,
    *,
    max_tokens: int = CHUNK_TOKENS,
    max_rows: int = MAX_ROWS,
    group: Group = ALONE,
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Log-probabilities (B, N), in nats, of all items' codes, for chunks of users of like history length.

    They are the scores that a beam search gives to the sequences that it finds (METHODS C.6). `codes_NL` is (N + 1, L)
    with row 0 for padding. Each process of a group scores its own chunks.
    """
    leaves_N = trie.leaves_N()
    was_training = model.training
    model.eval()
    for rows in list(length_groups(histories.lengths * model.num_levels, max_tokens))[group.own]:
        states_BSD, mask_BS = model.encode(histories.take(rows), codes_NL).padded()
        yield rows, leaf_scores(model, states_BSD, mask_BS, trie, max_rows=max_rows)[:, leaves_N]
    model.train(was_training)


@torch.inference_mode()
def leaf_scores(
    model: CodeSeq2Seq, states_BSD: Tensor, mask_BS: Tensor, trie: Trie, *, max_rows: int = MAX_ROWS
) -> Tensor:
    """(B, leaves) sum of the log-probabilities of each leaf's codes.

    Level by level, and depth first over blocks of sibling prefixes, of which every user has the same: beside the
    result, memory holds one block a level, whatever the number of items.
    """
    memory, bias = model.decoder.memory(states_BSD), padding_bias(mask_BS)
    batch, width = len(states_BSD), max(1, max_rows // len(states_BSD))
    scores_BF = states_BSD.new_empty(batch, len(trie.first_item) - 1, dtype=torch.float32)

    def descend(depth: int, first: int, scores_BW: Tensor, inputs_BWD: Tensor, past: list[Past] | None) -> None:
        """Scores all leaves below the W nodes of `depth` from the node `first` on."""
        states_BWD, past = model.decoder.step(inputs_BWD, past, memory, bias)
        log_probs_BWK = model.logits_at(states_BWD, depth).float().log_softmax(-1)
        level, num_nodes = trie.levels[depth], scores_BW.shape[1]
        start, end = (int(trie.first_children[depth][node]) for node in (first, first + num_nodes))
        keys_C = level.keys_M[start:end]
        parents_C, codes_C = keys_C // level.num_codes - first, keys_C % level.num_codes
        scores_BC = scores_BW[:, parents_C] + log_probs_BWK[:, parents_C, codes_C]
        if depth + 1 == model.num_levels:
            scores_BF[:, start:end] = scores_BC
            return
        for begin in range(0, end - start, width):
            block = slice(begin, begin + width)
            rows = parent_rows(parents_C[block].expand(batch, -1), num_nodes)
            inputs = model.embed(codes_C[block], depth).expand(batch, -1, -1)
            below = [layer.rows(rows) for layer in past]
            descend(depth + 1, start + begin, scores_BC[:, block], inputs, below)

    root_B1 = torch.zeros(batch, 1, device=states_BSD.device)
    descend(0, 0, root_B1, model.bos_embedding().expand(batch, 1, -1), None)
    return scores_BF
