"""Exact decoding: the score of every item that matters, so that the best ones are the true ones and no beam misses any.

A prefix is at least as probable as all that it begins, so a prefix below what is wanted is left with all its items
(branch and bound).

Shape legend: B users, S tokens, W nodes looked at at once, C their children, G those that go on, D width,
K codes of a level, L levels, N items, U histories.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.data.dataset import Sequences
from harness.distributed import ALONE, Group
from harness.generative.decoding.beam import beam_search, parent_rows
from harness.generative.decoding.trie import Trie
from harness.nn.code_seq2seq import CodeSeq2Seq, length_groups, padding_bias
from harness.nn.moving import moved
from harness.nn.t5 import Past

# Run at once, on all devices: more users would have more scores than memory holds, where items are many.
CHUNK_TOKENS = 2048  # history tokens
MAX_ROWS = 8192  # decoder positions (users x nodes)
ROUNDING = 1e-3  # nats; more than the score of a sequence changes with what is computed beside it


class Wanted(NamedTuple):
    """What scores are asked for: of the items that are at least as good as the `places` best or the target."""

    places: int
    targets_U: np.ndarray | None = None  # an item of each history


@torch.inference_mode()
def exact_scores(
    model: CodeSeq2Seq,
    histories: Sequences,
    codes_NL: Tensor,
    trie: Trie,
    wanted: Wanted | None = None,
    *,
    max_tokens: int = CHUNK_TOKENS,
    max_rows: int = MAX_ROWS,
    group: Group = ALONE,
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Log-probabilities (B, N), in nats, of all items' codes, for chunks of users of like history length.

    They are the scores that a beam search gives to the sequences that it finds (METHODS C.6). `codes_NL` is (N + 1, L)
    with row 0 for padding. `wanted`: items behind the wanted ones may have -inf; none: all have their scores. Each
    process of a group scores its own chunks.
    """
    leaves_N = trie.leaves_N()
    was_training = model.training
    model.eval()
    for rows in list(length_groups(histories.lengths * model.num_levels, max_tokens))[group.own]:
        states_BSD, mask_BS = model.encode(histories.take(rows), codes_NL).padded()
        # A GPU would wait for each level to learn which prefixes go on, and so computes all.
        if wanted is None or codes_NL.device.type != "cpu":
            scores_BF = leaf_scores(model, states_BSD, mask_BS, trie, max_rows=max_rows)
        else:
            floor_B = least_wanted(model, states_BSD, mask_BS, trie, wanted.places)
            if wanted.targets_U is not None:
                targets_BL = codes_NL[torch.from_numpy(wanted.targets_U[rows]).long()]
                floor_B = floor_B.minimum(sequence_scores(model, states_BSD, mask_BS, targets_BL))
            # One user after the other: each has prefixes of its own.
            users = zip(states_BSD.split(1), mask_BS.split(1), (floor_B - ROUNDING).tolist(), strict=True)
            scores_BF = torch.cat(
                [
                    leaf_scores(model, states[:, mask[0]], mask[:, mask[0]], trie, floor=floor, max_rows=max_rows)
                    for states, mask, floor in users
                ]
            )
        yield rows, scores_BF[:, leaves_N]
    model.train(was_training)


def least_wanted(model: CodeSeq2Seq, states_BSD: Tensor, mask_BS: Tensor, trie: Trie, places: int) -> Tensor:
    """(B,) a score that each user's `places` best items reach: the last of as many beams; -inf where they are fewer."""
    scores_BW = beam_search(model, states_BSD, mask_BS, num_beams=places, trie=trie).scores_BW
    return scores_BW[:, -1] if scores_BW.shape[1] == places else torch.full_like(scores_BW[:, 0], -math.inf)


def sequence_scores(model: CodeSeq2Seq, states_BSD: Tensor, mask_BS: Tensor, codes_BL: Tensor) -> Tensor:
    """(B,) log-probability of a sequence of codes for each user, in nats."""
    memory, bias = model.decoder.memory(states_BSD), padding_bias(mask_BS)
    inputs_B1D, past = model.bos_embedding().expand(len(codes_BL), 1, -1), None
    scores_B = states_BSD.new_zeros(len(codes_BL), dtype=torch.float32)
    for level, codes_B1 in enumerate(codes_BL.split(1, dim=1)):
        states_B1D, past = model.decoder.step(inputs_B1D, past, memory, bias)
        scores_B += model.logits_at(states_B1D[:, 0], level).float().log_softmax(-1).gather(1, codes_B1)[:, 0]
        inputs_B1D = model.embed(codes_B1, level)
    return scores_B


@torch.inference_mode()
def leaf_scores(
    model: CodeSeq2Seq,
    states_BSD: Tensor,
    mask_BS: Tensor,
    trie: Trie,
    *,
    floor: float | None = None,
    max_rows: int = MAX_ROWS,
) -> Tensor:
    """(B, leaves) sum of the log-probabilities of each leaf's codes; -inf may stand for one below the `floor`.

    Level by level, and depth first over blocks of prefixes, of which every user has the same: beside the result,
    memory holds one block a level, whatever the number of items.
    """
    memory, bias = model.decoder.memory(states_BSD), padding_bias(mask_BS)
    batch, width, device = len(states_BSD), max(1, max_rows // len(states_BSD)), states_BSD.device
    scores_BF = torch.full((batch, len(trie.first_item) - 1), -math.inf, device=device)

    def descend(
        depth: int, nodes_W: np.ndarray, scores_BW: Tensor, inputs_BWD: Tensor, past: list[Past] | None
    ) -> None:
        """Scores the leaves below the W nodes of `depth`."""
        states_BWD, past = model.decoder.step(inputs_BWD, past, memory, bias)
        log_probs_BWK = model.logits_at(states_BWD, depth).float().log_softmax(-1)
        nodes_C, parents, codes = trie.edges_below(depth, nodes_W)
        parents_C, codes_C, there_C = moved({"parents": parents, "codes": codes, "nodes": nodes_C}, device).values()
        scores_BC = scores_BW[:, parents_C] + log_probs_BWK[:, parents_C, codes_C]
        if depth + 1 == model.num_levels:
            scores_BF[:, there_C] = scores_BC
            return
        if floor is not None:
            going_G = (scores_BC >= floor).any(dim=0).nonzero()[:, 0]
            nodes_C, scores_BC = nodes_C[going_G.numpy()], scores_BC[:, going_G]
            parents_C, codes_C = parents_C[going_G], codes_C[going_G]
        for begin in range(0, len(nodes_C), width):
            block = slice(begin, begin + width)
            rows = parent_rows(parents_C[block].expand(batch, -1), len(nodes_W))
            inputs = model.embed(codes_C[block], depth).expand(batch, -1, -1)
            descend(depth + 1, nodes_C[block], scores_BC[:, block], inputs, [layer.rows(rows) for layer in past])

    root_B1 = torch.zeros(batch, 1, device=device)
    descend(0, np.zeros(1, dtype=np.int64), root_B1, model.bos_embedding().expand(batch, 1, -1), None)
    return scores_BF
