"""Training a tokenizer on all item vectors: k-means start, selection by collisions, saving and loading.

Shape legend: B rows, N items, L levels, K codes per level, D code width, Z width of an item vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from harness.config import Config
from harness.generative.tokenizer.codes import flat_health
from harness.generative.tokenizer.quantize import nearest, squared_distances, squared_error
from harness.generative.tokenizer.reassign import ZeroCollisions
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig, tokenizer_loss
from harness.generative.tokenizer.sinkhorn import sinkhorn_at_level
from harness.interfaces import FitContext, Precision
from harness.nn.moving import moved
from harness.nn.pieces import pieces_on
from harness.seeding import numpy_stream, torch_stream
from harness.stages import read_json, write_json
from harness.training.checkpoints import load_tensors, save_tensors
from harness.training.learner import Learner
from harness.training.loop import Losses, Phase, TrainingPlan, train
from harness.training.schedules import warmup_then_linear

STAGE = "tokenizer"
CHECKPOINT_EPOCHS = 50  # at most, between two points from which an interrupted training goes on

Cluster = Callable[[np.ndarray, int], np.ndarray]  # (points (N, D), level from 0) -> centres (K, D)


class TokenizerTraining(Config):
    """How a tokenizer is trained: AdamW on all items; what all tokenizers share."""

    added_later: ClassVar[frozenset[str]] = frozenset({"zero_collisions"})

    epochs: int = Field(default=10_000, ge=1, description="at most")
    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_epochs: float = Field(default=50, ge=0, description="epochs in which the rate rises from 0")
    decay: Literal["linear", "constant"] = Field(
        default="linear", description="linear: from the peak after the warm-up to 0 at the end"
    )
    max_norm: float | None = Field(default=1.0, gt=0, description="of the gradient; none: no clipping")
    evaluate_every: int = Field(default=50, ge=1, description="epochs")
    selection: Literal["collision", "loss"] = Field(
        default="collision", description="collision: fewest collisions, a tie goes to the lower loss; loss: lowest loss"
    )
    patience: int | None = Field(
        default=None, ge=1, description="evaluations in a row without fewer collisions before stopping; none: never"
    )
    zero_collisions: ZeroCollisions = Field(
        default="off",
        description="other last codes for items that share all: assigned (fewest changes, then least distance), greedy",
    )


class TokenizerConfig(TokenizerTraining):
    """The RQ-VAE pre-training of TIGER, TIGER-SAS and ETEGRec (METHODS B.2)."""

    rqvae: RQVAEConfig = Field(default_factory=RQVAEConfig)
    kmeans_init: Literal["all", "first_batch"] = Field(
        default="all", description="the items whose clusters are the first codes (C.5 #31)"
    )
    sinkhorn_last_level: bool = Field(
        default=False, description="balance the last level's codes in training, as LETTER does"
    )


def fit_tokenizer(config: TokenizerConfig, vectors_NZ: Tensor | np.ndarray, context: FitContext) -> RQVAE:
    """The selected RQ-VAE for the given item vectors (row i - 1 is item i), on the context's device.

    Goes on from the last checkpoint in the context's folder, if there is one, and makes the same bits.
    Raises `StageError` where the loss is not finite.
    """
    vectors_NZ = torch.as_tensor(vectors_NZ, dtype=torch.float32).to(context.device)
    rqvae_config = config.rqvae
    init = torch_stream(context.seed, STAGE, "init")
    model = RQVAE(vectors_NZ.shape[1], rqvae_config, generator=init).to(context.device)
    assign = sinkhorn_at_level(rqvae_config.num_levels - 1) if config.sinkhorn_last_level else nearest

    def begin(epoch: int) -> None:
        if epoch == 0:
            start_vectors_NZ = vectors_NZ
            if config.kmeans_init == "first_batch":
                first_stream = numpy_stream(context.seed, STAGE, "batches", 0)  # the loop's own, so its first batch
                start_vectors_NZ = vectors_NZ[next(item_batches(vectors_NZ, config.batch_size, first_stream))]
            start_codebooks(model, start_vectors_NZ, kmeans(rqvae_config.codebook_size, context.seed))

    def losses(rows_B: Tensor) -> Iterator[Losses]:
        vectors_BZ = vectors_NZ.index_select(0, rows_B)
        yield {"total": tokenizer_loss(model(vectors_BZ, assign), vectors_BZ, rqvae_config)}

    plan = tokenizer_plan(model, model, config, vectors_NZ, begin=begin, losses=losses, precision=context.precision)
    train(plan, context)
    return model


def tokenizer_plan(
    module: nn.Module,
    rqvae: RQVAE,
    config: TokenizerTraining,
    vectors_NZ: Tensor,
    *,
    begin: Callable[[int], None],
    losses: Callable[[Tensor], Iterable[Losses]],
    precision: Precision,
) -> TrainingPlan:
    """The plan of a tokenizer's training: all items in batches, evaluations by collisions, one optimiser.

    `module` is what is trained and saved, and holds `rqvae`. `begin(epoch)` comes before every epoch (from 0),
    and must place the codebooks at epoch 0; `losses(rows_B)` are those of a batch, given as rows of `vectors_NZ`.
    """
    steps = -(-len(vectors_NZ) // config.batch_size)
    learner = Learner(
        torch.optim.AdamW(module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True),
        warmup_then_linear(config.warmup_epochs * steps, config.epochs * steps if config.decay == "linear" else None),
        config.max_norm,
    )
    latest: dict[str, float] = {}

    def evaluate(epoch: int) -> dict[str, float]:
        if (epoch + 1) % config.evaluate_every and epoch + 1 < config.epochs:
            return {}
        latest.update(evaluation(rqvae, vectors_NZ, precision))
        return dict(latest)

    def phase_of(epoch: int) -> Phase:
        return Phase(STAGE, (STAGE,), losses, lambda: begin(epoch), lambda: evaluate(epoch))

    def stop(history: tuple[dict[str, Any], ...]) -> bool:
        collisions = [row["measures"]["collision_rate"] for row in history if row["measures"]]
        return config.patience is not None and evaluations_without_gain(collisions) >= config.patience

    return TrainingPlan(
        name=STAGE,
        model=module,
        learners={STAGE: learner},
        phase_of=phase_of,
        batches=lambda stream: item_batches(vectors_NZ, config.batch_size, stream),
        epochs=config.epochs,
        score=lambda: selection_score(latest, config.selection),
        score_every=config.evaluate_every,
        stop=stop,
        checkpoint_every=min(config.evaluate_every, CHECKPOINT_EPOCHS),
    )


def item_batches(vectors_NZ: Tensor, batch_size: int, stream: np.random.Generator) -> Iterator[Tensor]:
    """All row numbers in a random order, on the vectors' device, cut into batches (the last may be smaller)."""
    yield from moved({"order": stream.permutation(len(vectors_NZ))}, vectors_NZ.device)["order"].split(batch_size)


@torch.no_grad()
def evaluation(rqvae: RQVAE, vectors_NZ: Tensor, precision: Precision = "fp32") -> dict[str, float]:
    """Measures of all items with nearest codes: loss, reconstruction error, and the codes' health as flat numbers.

    The loss need not fall while the reconstruction improves: its quantisation part grows with the encoder's scale. All
    are in fp32; of a training in bf16 they tell how many items would have other codes in bf16.
    """
    losses, errors, codes = [], [], []
    for vectors_BZ in vectors_NZ.split(pieces_on(vectors_NZ.device).items):
        output = rqvae(vectors_BZ)
        losses.append(tokenizer_loss(output, vectors_BZ, rqvae.config) * len(vectors_BZ))
        errors.append(squared_error(output.reconstruction_BZ, vectors_BZ, rqvae.config.loss_form) * len(vectors_BZ))
        codes.append(output.quantized.codes_BL)
    num_items, codes_NL = len(vectors_NZ), torch.cat(codes)
    rounded = {"codes_differing_in_bf16": rqvae.differing_in_bf16(vectors_NZ)} if precision == "bf16" else {}
    return {
        "loss": float(torch.stack(losses).sum()) / num_items,
        "reconstruction": float(torch.stack(errors).sum()) / num_items,
        "items": float(num_items),
        **flat_health(codes_NL, rqvae.config.codebook_size),
        **rounded,
    }


def selection_score(measures: dict[str, float], selection: Literal["collision", "loss"]) -> float:
    """An evaluation's score, higher is better: minus the loss, or minus the collisions with the loss breaking ties.

    Collisions are whole numbers, so adding the loss, squeezed into [0, 1), never outweighs one.
    """
    loss = measures["loss"]
    if selection == "loss":
        return -loss
    return -(round(measures["collision_rate"] * measures["items"]) + loss / (1 + loss))


def evaluations_without_gain(values: list[float]) -> int:
    """How many values in a row, at the end, are not below the lowest one before them."""
    return len(values) - 1 - values.index(min(values)) if values else 0


@torch.no_grad()
def start_codebooks(rqvae: RQVAE, vectors_NZ: Tensor, cluster: Cluster) -> None:
    """Place each level's codes at the cluster centres of what the levels before it leave of the encoded vectors."""
    residual_ND = torch.cat(
        [rqvae.encode(vectors_BZ) for vectors_BZ in vectors_NZ.split(pieces_on(vectors_NZ.device).items)]
    )
    for level, codebook_KD in enumerate(rqvae.codebooks_LKD):
        codebook_KD.copy_(torch.from_numpy(cluster(residual_ND.cpu().numpy(), level)))
        residual_ND = residual_ND - codebook_KD[nearest(level, squared_distances(residual_ND, codebook_KD))]


def kmeans(num_clusters: int, seed: int, iterations: int = 100) -> Cluster:
    """A `Cluster` by scikit-learn's k-means: one seeded start, at most `iterations` rounds.

    Where there are no more distinct points than clusters, the points are the centres, and the centres left over
    are random points moved by a hundredth of the points' spread, so that no two codes coincide.
    """

    def centers(points_ND: np.ndarray, level: int) -> np.ndarray:
        stream = numpy_stream(seed, STAGE, "kmeans", level)
        distinct_MD = np.unique(points_ND, axis=0)
        if len(distinct_MD) <= num_clusters:
            return np.concatenate([distinct_MD, jittered(distinct_MD, num_clusters - len(distinct_MD), stream)])
        from sklearn.cluster import KMeans  # over a second, which commands that fit nothing need not wait

        clustering = KMeans(num_clusters, n_init=1, max_iter=iterations, random_state=int(stream.integers(2**32)))
        with threadpool_limits(limits=1):  # the partial sums of several threads come in no fixed order
            return clustering.fit(points_ND).cluster_centers_

    return centers


def jittered(points_MD: np.ndarray, count: int, stream: np.random.Generator) -> np.ndarray:
    """(count, D) copies of random points, each moved by noise of a hundredth of the points' spread."""
    noise = stream.standard_normal((count, points_MD.shape[1])) * max(0.01 * float(points_MD.std()), 1e-6)
    return (points_MD[stream.integers(len(points_MD), size=count)] + noise).astype(points_MD.dtype)


def save_tokenizer(rqvae: RQVAE, folder: Path) -> None:
    """Writes `tokenizer.safetensors` and `tokenizer.json`."""
    save_tensors(folder / "tokenizer.safetensors", rqvae.state_dict())
    shape = {"input_dim": rqvae.input_dim, "config": rqvae.config.model_dump(mode="json")}
    write_json(folder / "tokenizer.json", shape)


def load_tokenizer(folder: Path) -> RQVAE:
    """The RQ-VAE that `save_tokenizer` wrote, on the CPU; every weight must be there (METHODS C.5 #28)."""
    shape = read_json(folder / "tokenizer.json")
    rqvae = RQVAE(shape["input_dim"], RQVAEConfig.model_validate(shape["config"]))
    rqvae.load_state_dict(load_tensors(folder / "tokenizer.safetensors"))
    return rqvae
