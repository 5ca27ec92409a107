"""Beam search over item codes, and ranked lists of items from it (METHODS C.6).

Shape legend: B users, V old and W new beams, L levels, K codes of a level, C codes that may follow a prefix, D width,
R = top_k ranks.
The search is split at its seams: the model scores, a trie (or none) filters, the beam keeps the best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.data.dataset import Sequences
from harness.distributed import ALONE, Group
from harness.errors import UsageError
from harness.generative.decoding.trie import Trie
from harness.nn.code_seq2seq import CodeSeq2Seq, length_groups, padding_bias
from harness.nn.pieces import pieces_on
from harness.nn.t5 import Past


class Beams(NamedTuple):
    """Code sequences by falling score. A score of -inf is a beam that the trie left empty."""

    codes_BWL: Tensor  # int64
    scores_BW: Tensor  # sum of the log-probabilities of the codes, in nats


@torch.inference_mode()
def beam_search(
    model: CodeSeq2Seq, states_BSD: Tensor, mask_BS: Tensor, *, num_beams: int, trie: Trie | None = None
) -> Beams:
    """The `num_beams` most probable code sequences of each user that beam search finds.

    Exactly L steps, no end token, no length penalty. Each level's probabilities are taken over its whole codebook,
    though only the codes that the trie allows are candidates, so scores stay log-probabilities of the model
    (METHODS C.6). The search starts from one beam. There are fewer than `num_beams` beams where fewer sequences of
    codes exist.
    """
    memory = model.decoder.memory(states_BSD)
    bias = padding_bias(mask_BS)
    batch, device = len(states_BSD), states_BSD.device
    codes_BWL = torch.zeros(batch, 1, 0, dtype=torch.long, device=device)
    nodes_BW = torch.zeros(batch, 1, dtype=torch.long, device=device)
    scores_BW = torch.zeros(batch, 1, device=device)
    inputs_BWD = model.bos_embedding().expand(batch, 1, -1)
    past: list[Past] | None = None
    for level in range(model.num_levels):
        inputs_BWD, past = model.decoder.step(inputs_BWD, past, memory, bias)
        log_probs_BWK = model.logits_at(inputs_BWD, level).float().log_softmax(-1)
        if trie is None:
            scores_BW, parents_BW, new_codes_BW = best_of(scores_BW[..., None] + log_probs_BWK, num_beams)
        else:
            codes_BWC, children_BWC = trie.continuations(level, nodes_BW)
            log_probs_BWC = log_probs_BWK.gather(2, codes_BWC).masked_fill_(children_BWC < 0, -math.inf)
            scores_BW, parents_BW, places_BW = best_of(scores_BW[..., None] + log_probs_BWC, num_beams)
            picked_BW = parents_BW * codes_BWC.shape[2] + places_BW
            new_codes_BW = codes_BWC.flatten(1).gather(1, picked_BW)
            nodes_BW = children_BWC.flatten(1).gather(1, picked_BW)
        codes_BWL = torch.cat([pick(codes_BWL, parents_BW), new_codes_BW[..., None]], dim=-1)
        if level + 1 < model.num_levels:
            rows = parent_rows(parents_BW, inputs_BWD.shape[1])
            past = [layer.rows(rows) for layer in past]
            inputs_BWD = model.embed(new_codes_BW, level)
    return Beams(codes_BWL, scores_BW)


def best_of(scores_BVC: Tensor, num_beams: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `num_beams` highest scores of each user (B, W), all where they are fewer, with their beams and places."""
    num_places = scores_BVC.shape[2]
    candidates = scores_BVC.flatten(1)
    scores_BW, best_BW = candidates.topk(min(num_beams, candidates.shape[1]))
    return scores_BW, best_BW // num_places, best_BW % num_places


def pick(x_BVL: Tensor, parents_BW: Tensor) -> Tensor:
    """(B, W, L): each new beam's row of the old V beams."""
    return x_BVL.gather(1, parents_BW[..., None].expand(-1, -1, x_BVL.shape[-1]))


def parent_rows(parents_BW: Tensor, old_width: int) -> Tensor:
    """(B * W,) the cache row of each new beam's parent, where each user had `old_width` rows."""
    first_row_B1 = torch.arange(len(parents_BW), device=parents_BW.device)[:, None] * old_width
    return (first_row_B1 + parents_BW).flatten()


def rank_items(beams: Beams, trie: Trie, k: int) -> tuple[Tensor, Tensor]:
    """The first `k` items of each user, (B, k) int64, and their scores (B, k).

    Items that share a sequence follow each other in the order of their ids, each on a rank of its own. A sequence
    that names no item keeps its rank, as item 0 with its score. Ranks beyond the last beam are item 0 at -inf.
    """
    leaves_BW = trie.lookup(beams.codes_BWL)
    ranks_taken_BW = trie.group_sizes(leaves_BW).clamp(min=1) * (beams.scores_BW > -math.inf)
    end_BW = ranks_taken_BW.cumsum(1)
    ranks_BR = torch.arange(k, device=end_BW.device).expand(len(end_BW), -1).contiguous()
    beam_BR = torch.searchsorted(end_BW, ranks_BR, right=True)
    exists_BR = beam_BR < end_BW.shape[1]
    beam_BR = beam_BR.clamp(max=end_BW.shape[1] - 1)
    leaf_BR = leaves_BW.gather(1, beam_BR)
    within_BR = ranks_BR - (end_BW - ranks_taken_BW).gather(1, beam_BR)
    named_BR = exists_BR & (leaf_BR >= 0)
    place_BR = torch.where(named_BR, trie.first_item[leaf_BR.clamp(min=0)] + within_BR, 0)
    items_BR = torch.where(named_BR, trie.items_N[place_BR], 0)
    scores_BR = torch.where(exists_BR, beams.scores_BW.gather(1, beam_BR), -math.inf)
    return items_BR, scores_BR


@dataclass(frozen=True, kw_only=True)
class Search:
    """How lists are searched for; `UsageError` where the beam is narrower than a list that must be full (`fills`)."""

    num_beams: int
    k: int  # places of a list
    constrained: bool = True  # the trie keeps the search to sequences that name an item; else it only looks them up
    fills: bool = True
    max_tokens: int | None = None  # history tokens and beams of a chunk of users; none: what suits the device

    def __post_init__(self) -> None:
        if self.fills and self.num_beams < self.k:
            raise UsageError(
                f"num_beams >= top_k must hold, but got num_beams={self.num_beams}, top_k={self.k}; raise num_beams"
            )


def recommend_by_codes(
    model: CodeSeq2Seq, histories: Sequences, codes_NL: Tensor, trie: Trie, search: Search, group: Group = ALONE
) -> tuple[np.ndarray, np.ndarray]:
    """The top `k` items (B, k) int64 and scores (B, k) float32 of each history, as in `rank_items`.

    `codes_NL` is (N + 1, L) with row 0 for padding. Users are served in chunks of like history length. Each process
    of a group serves its own chunks, the same as one process would make, so results are the same.
    """
    num_beams, k = search.num_beams, search.k
    seen = trie if search.constrained else None
    items = np.zeros((len(histories), k), dtype=np.int64)
    scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
    at_once = search.max_tokens or pieces_on(codes_NL.device).searched_tokens
    chunks = list(length_groups(histories.lengths * model.num_levels + num_beams, at_once))[group.own]
    was_training = model.training
    model.eval()
    found = []
    with torch.inference_mode():
        for rows in chunks:
            encoded = model.encode(histories.take(rows), codes_NL)
            beams = beam_search(model, *encoded.padded(), num_beams=num_beams, trie=seen)
            items_BR, scores_BR = rank_items(beams, trie, k)
            found.append(torch.stack([items_BR, scores_BR.view(torch.int32).long()]))  # scores as they are, to the bit
    model.train(was_training)
    own = np.concatenate([np.empty(0, dtype=np.int64), *chunks])
    if found:
        items[own], score_bits = torch.cat(found, dim=1).cpu().numpy()  # the only wait for the device
        scores[own] = score_bits.astype(np.int32).view(np.float32)
    return group.gather_rows(own, items), group.gather_rows(own, scores)
