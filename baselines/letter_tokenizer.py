"""LETTER's tokenizer: an RQ-VAE on text vectors, aligned with collaborative vectors, its codes kept diverse.

METHODS B.4. Shape legend: B rows, N items, L levels, K codes per level, G code groups, D code width, Z text width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from harness.errors import StageError
from harness.generative.tokenizer.codes import deduplicate, tuple_keys
from harness.generative.tokenizer.constrained_kmeans import constrained_kmeans
from harness.generative.tokenizer.fit import (
    STAGE,
    Cluster,
    TokenizerTraining,
    kmeans,
    start_codebooks,
    tokenizer_plan,
)
from harness.generative.tokenizer.reassign import nearest_codes, semantic_codes, without_collisions
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig, tokenizer_loss
from harness.generative.tokenizer.sinkhorn import sinkhorn_at_level, sinkhorn_codes
from harness.interfaces import FitContext
from harness.nn.kernels.precision import full_precision
from harness.seeding import numpy_stream, torch_stream
from harness.training.loop import Losses, train

MASKED_LOGIT = -1e12
RELEASED_CHECKS = 10  # for collisions, in a whole training


class LetterTokenizerConfig(TokenizerTraining):
    """LETTER's tokenizer: the official code's sizes and schedule, the weights of METHODS B.4."""

    rqvae: RQVAEConfig = RQVAEConfig(hidden_sizes=(2048, 1024, 512, 256, 128, 64), code_dim=32, num_levels=4)
    epochs: int = Field(default=20_000, ge=1, description="at most")
    warmup_epochs: float = Field(default=0, ge=0, description="epochs in which the rate rises from 0")
    decay: Literal["linear", "constant"] = Field(default="constant", description="constant: the rate stays")
    max_norm: float | None = Field(default=None, gt=0, description="of the gradient; none: no clipping")
    alpha_cf: float = Field(default=0.02, ge=0, description="weight of the collaborative alignment")
    beta_div: float = Field(default=1e-4, ge=0, description="weight of the diversity loss")
    num_groups: int = Field(default=10, ge=1, description="groups of similar codes per level")
    refresh_groups_every: int = Field(default=10, ge=1, description="epochs; the official code's value is 1")
    kmeans_restarts: int = Field(default=1, ge=1, description="starts of the first codes' k-means, the best is kept")
    sinkhorn_epsilon: float = Field(default=0.003, gt=0, description="entropy of the last level's balanced assignment")
    sinkhorn_iterations: int = Field(default=50, ge=1)
    collision_rounds: int = Field(default=20, ge=0, description="rounds that give colliding items other last codes")
    dedup: bool = Field(default=False, description="append a de-duplication token instead of those rounds")

    @model_validator(mode="after")
    def _groups_have_pairs(self) -> LetterTokenizerConfig:
        if self.rqvae.codebook_size < 2 * self.num_groups:
            raise ValueError(
                f"codebook_size >= 2 * num_groups must hold, but got codebook_size={self.rqvae.codebook_size}, "
                f"num_groups={self.num_groups}; lower num_groups"
            )
        return self


def released(config: LetterTokenizerConfig) -> LetterTokenizerConfig:
    """The config with the schedule and the weights of the released code and its script (METHODS B.4).

    Its checks for collisions come every 2,000 of 20,000 epochs: always a tenth here, so that ten weights compete.
    """
    return config.replace(
        evaluate_every=-(-config.epochs // RELEASED_CHECKS),
        kmeans_restarts=10,
        refresh_groups_every=1,
        alpha_cf=0.01,
        beta_div=1e-4,
    )


def selection_assumptions(config: LetterTokenizerConfig) -> list[str]:
    """How weights and first codes are chosen where the released code chooses otherwise, as one line; else none."""
    checks = -(-config.epochs // config.evaluate_every)
    if (checks, config.kmeans_restarts) == (RELEASED_CHECKS, 10):
        return []
    return [
        f"LETTER: the fewest collisions of {checks} checks choose the tokenizer's weights, and the first codes come "
        f"from {config.kmeans_restarts} start{'s' * (config.kmeans_restarts > 1)} of k-means; the released code takes "
        f"{RELEASED_CHECKS} and 10"
    ]


class LetterTokenizer(nn.Module):
    """An RQ-VAE and the present group of each of its codes, which must survive an interruption."""

    groups_LK: Tensor
    rings: GroupRings  # of the groups, made at the beginning of each epoch

    def __init__(self, rqvae: RQVAE) -> None:
        super().__init__()
        self.rqvae = rqvae
        self.register_buffer("groups_LK", torch.zeros(rqvae.codebooks_LKD.shape[:2], dtype=torch.int64))


def fit_letter_tokenizer(
    config: LetterTokenizerConfig,
    text_vectors_NZ: Tensor | np.ndarray,
    cf_vectors_ND: Tensor | np.ndarray,
    context: FitContext,
) -> tuple[RQVAE, Tensor]:
    """The selected RQ-VAE, and the codes (N, L) int64 of all items (N, L + 1 with `dedup`).

    Row i - 1 of both inputs is item i; the collaborative vectors must be as wide as the codes. Without `dedup`,
    items that still collide after `collision_rounds` keep a shared tuple.
    Raises `StageError` for inputs that do not fit together, and where a loss is not finite.
    """
    _check_inputs(text_vectors_NZ, cf_vectors_ND, config.rqvae.code_dim)
    text_NZ = torch.as_tensor(text_vectors_NZ, dtype=torch.float32).to(context.device)
    cf_ND = torch.as_tensor(cf_vectors_ND, dtype=torch.float32).to(context.device)
    rqvae = RQVAE(text_NZ.shape[1], config.rqvae, generator=torch_stream(context.seed, STAGE, "init"))
    model = LetterTokenizer(rqvae).to(context.device)
    assign = sinkhorn_at_level(
        config.rqvae.num_levels - 1, epsilon=config.sinkhorn_epsilon, iterations=config.sinkhorn_iterations
    )

    def begin(epoch: int) -> None:
        if epoch == 0:
            cluster = size_bounded_kmeans(config.rqvae.codebook_size, context.seed, config.kmeans_restarts)
            start_codebooks(rqvae, text_NZ, cluster)
        if config.beta_div and epoch % config.refresh_groups_every == 0:
            model.groups_LK.copy_(code_groups(rqvae.codebooks_LKD, config.num_groups, context.seed, epoch))
        if config.beta_div:
            model.rings = GroupRings.of(model.groups_LK)

    def losses(rows_B: Tensor) -> Iterator[Losses]:
        text_BZ = text_NZ.index_select(0, rows_B)
        output = rqvae(text_BZ, assign)
        quantized = output.quantized
        semantic = tokenizer_loss(output, text_BZ, config.rqvae)
        collaborative = collaborative_loss(quantized.quantized_BD, cf_ND.index_select(0, rows_B))
        total = semantic + config.alpha_cf * collaborative
        parts = {"semantic": semantic, "collaborative": collaborative}
        if config.beta_div:
            partners_BL = draw_partners(quantized.codes_BL, model.rings)
            parts["diversity"] = diversity_loss(rqvae.codebooks_LKD, quantized.codes_BL, partners_BL)
            total = total + config.beta_div * parts["diversity"]
        yield {"total": total, **parts}

    plan = tokenizer_plan(model, rqvae, config, text_NZ, begin=begin, losses=losses, precision=context.precision)
    train(plan, context)
    return rqvae, item_codes(rqvae, text_NZ, config)


def collaborative_loss(quantized_BD: Tensor, cf_vectors_BD: Tensor) -> Tensor:
    """L_CF in nats, a scalar: cross-entropy of each item's own collaborative vector among those of the batch.

    Logits are raw inner products of the straight-through sum, so the gradient reaches the encoder alone.
    """
    own_B = torch.arange(len(quantized_BD), device=quantized_BD.device)
    with full_precision(quantized_BD.device):
        return F.cross_entropy(quantized_BD @ cf_vectors_BD.T, own_B)


def diversity_loss(codebooks_LKD: Tensor, codes_BL: Tensor, partners_BL: Tensor) -> Tensor:
    """L_div in nats, a scalar: how unlike each chosen code is to its partner, among the level's other codes.

    Logits are the inner products of the chosen code with all codes of its level, itself masked. Averaged over
    batch and levels; the gradient moves chosen and compared codes alike.
    """
    losses = []
    for codebook_KD, codes_B, partners_B in zip(codebooks_LKD, codes_BL.unbind(1), partners_BL.unbind(1), strict=True):
        with full_precision(codebook_KD.device):
            logits_BK = F.embedding(codes_B, codebook_KD) @ codebook_KD.T
        logits_BK = logits_BK.scatter(1, codes_B[:, None], MASKED_LOGIT)
        losses.append(F.cross_entropy(logits_BK, partners_B))
    return torch.stack(losses).mean()


class GroupRings(NamedTuple):
    """The codes of each level, group by group, each group a ring; what is asked of a code stands at its number."""

    members_LK: Tensor  # codes, group by group
    start_LK: Tensor  # where the code's group begins among the members
    place_LK: Tensor  # the code's place within its group
    size_LK: Tensor  # codes of its group

    @classmethod
    def of(cls, groups_LK: Tensor) -> GroupRings:
        """The rings of groups; every group must have at least two codes. Counts alone, so no device is waited for."""
        sorted_LK, members_LK = groups_LK.sort(dim=1, stable=True)
        start_LK = torch.searchsorted(sorted_LK, groups_LK)
        end_LK = torch.searchsorted(sorted_LK, groups_LK, right=True)
        return cls(members_LK, start_LK, members_LK.argsort(dim=1) - start_LK, end_LK - start_LK)


def draw_partners(codes_BL: Tensor, rings: GroupRings) -> Tensor:
    """(B, L) int64 for each code another one of its group, uniformly, from torch's default generator.

    It is a step of 1 to size - 1 around the ring of the code's group.
    """
    uniforms_BL = torch.rand(codes_BL.shape, device=codes_BL.device)
    start_BL, place_BL, size_BL = (x_LK.T.gather(0, codes_BL) for x_LK in rings[1:])
    step_BL = 1 + (uniforms_BL * (size_BL - 1)).long().minimum(size_BL - 2)  # a product may round up to size - 1
    return rings.members_LK.T.gather(0, start_BL + (place_BL + step_BL) % size_BL)


def code_groups(codebooks_LKD: Tensor, num_groups: int, seed: int, epoch: int) -> Tensor:
    """(L, K) int64 on the CPU: the group of each code, by size-bounded k-means of each level's code vectors."""
    min_size, max_size = group_bounds(codebooks_LKD.shape[1], num_groups)
    labels = [
        constrained_kmeans(
            codebook_KD, num_groups, min_size=min_size, max_size=max_size,
            stream=numpy_stream(seed, STAGE, "groups", epoch, level), iterations=10, restarts=10,
        ).labels_N
        for level, codebook_KD in enumerate(codebooks_LKD.detach().cpu().numpy())
    ]  # fmt: skip
    return torch.from_numpy(np.stack(labels))


def group_bounds(codebook_size: int, num_groups: int) -> tuple[int, int]:
    """Least and largest size of a code group: 10 and 60 for 10 groups of 256 codes (METHODS B.4).

    For other sizes: half the average size, at least 2 and at most 10; and 60, or the average where it is larger.
    """
    return max(2, min(codebook_size // (2 * num_groups), 10)), max(60, -(-codebook_size // num_groups))


def size_bounded_kmeans(num_clusters: int, seed: int, restarts: int = 1) -> Cluster:
    """A `Cluster` by size-bounded k-means, the best of `restarts`; plain k-means for no more points than clusters."""
    unbounded = kmeans(num_clusters, seed)

    def centers(points_ND: np.ndarray, level: int) -> np.ndarray:
        if len(points_ND) <= num_clusters:
            return unbounded(points_ND, level)
        min_size, max_size = initial_bounds(len(points_ND), num_clusters)
        stream = numpy_stream(seed, STAGE, "kmeans", level)
        return constrained_kmeans(
            points_ND, num_clusters, min_size=min_size, max_size=max_size, stream=stream, iterations=10,
            restarts=restarts,
        ).centers_KD  # fmt: skip

    return centers


def initial_bounds(num_items: int, codebook_size: int) -> tuple[int, int]:
    """Least and largest size of a first cluster: min(N // 512, 50) for 256 codes, and 4 times that (METHODS B.4).

    512 is twice the number of codes. Where 4 times the least size cannot hold all items (few items, or more than
    200 per code), the largest size is twice the average.
    """
    min_size = min(num_items // (2 * codebook_size), 50)
    max_size = 4 * min_size
    if max_size * codebook_size < num_items:
        max_size = -(-2 * num_items // codebook_size)
    return min_size, max_size


def item_codes(rqvae: RQVAE, text_vectors_NZ: Tensor, config: LetterTokenizerConfig) -> Tensor:
    """(N, L) int64 nearest codes, colliding items then given other last codes; (N, L + 1) with `dedup`."""
    if config.dedup:
        codes_NL = semantic_codes(rqvae, text_vectors_NZ, config.zero_collisions)
        return deduplicate(codes_NL, config.rqvae.codebook_size)
    codes_NL, last_distances_NK = nearest_codes(rqvae, text_vectors_NZ)
    codes_NL = resolve_collisions(
        codes_NL, last_distances_NK, rounds=config.collision_rounds,
        epsilon=config.sinkhorn_epsilon, iterations=config.sinkhorn_iterations,
    )  # fmt: skip
    return without_collisions(codes_NL, last_distances_NK, config.zero_collisions)


def resolve_collisions(
    codes_NL: Tensor, last_distances_NK: Tensor, *, rounds: int, epsilon: float = 0.003, iterations: int = 50
) -> Tensor:
    """(N, L) int64 codes in which items of one tuple have spread over the last level, as far as `rounds` allow.

    In each round, every group of items with the same tuple is assigned anew, by Sinkhorn within the group.
    """
    codes_NL = codes_NL.clone()
    for _ in range(rounds):
        colliding = colliding_groups(codes_NL)
        if not colliding:
            break
        for rows_G in colliding:
            distances_GK = last_distances_NK[rows_G]
            codes_NL[rows_G, -1] = sinkhorn_codes(distances_GK, epsilon=epsilon, iterations=iterations)
    return codes_NL


def colliding_groups(codes_NL: Tensor) -> list[Tensor]:
    """Rows of items that share a tuple: one tensor of row numbers, ascending, per shared tuple."""
    _, tuple_N, counts_T = tuple_keys(codes_NL).unique(return_inverse=True, return_counts=True)
    order_N = tuple_N.argsort(stable=True)
    is_shared_N = counts_T[tuple_N[order_N]] > 1
    return list(order_N[is_shared_N].split(counts_T[counts_T > 1].tolist()))


def _check_inputs(text_vectors: Tensor | np.ndarray, cf_vectors: Tensor | np.ndarray, code_dim: int) -> None:
    """Raises `StageError` unless both inputs have the same items, and the collaborative ones the codes' width."""
    if len(text_vectors) != len(cf_vectors):
        raise StageError(
            f"text and collaborative vectors must belong to the same items, but there are {len(text_vectors)} and "
            f"{len(cf_vectors)}; make both from one prepared data set"
        )
    if cf_vectors.shape[1] != code_dim:
        raise StageError(
            f"collaborative vectors must be as wide as the codes, but got {cf_vectors.shape[1]} and "
            f"rqvae.code_dim={code_dim}; train the collaborative model with that width"
        )
