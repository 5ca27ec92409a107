"""Counts what code generators and their tokenizers ask of a GPU, and prints it as JSON: python generative_counts.py

At the paper's numbers of layers, levels, codes, beams and samples; widths change no count and are narrow. Attention
counts as all that its formula launches without a fused kernel, ten times what CUDA does: so a budget is never met by an
estimate.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import autocast_lists
import fused
import numpy as np
import torch
from counts_on_stand_in import counts, dataset
from stand_in_gpu import GPU, StandInGpu
from torch import Tensor

from baselines.letter_tokenizer import GroupRings, diversity_loss, draw_partners
from etegrec.config import ETEGRecConfig
from etegrec.model import ETEGRec
from etegrec.training import ETEGRecTraining
from harness.data.samples import PrefixSamples
from harness.distributed import ALONE
from harness.generative.decoding.exact import exact_scores
from harness.generative.generator import Batch, adamw, own_samples, prefix_batches, token_losses
from harness.generative.tokenizer.fit import TokenizerConfig
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig, tokenizer_loss
from harness.generative.tokenizer.sinkhorn import sinkhorn_at_level
from harness.interfaces import FitContext
from harness.nn.t5 import T5Config
from harness.sequence.sasrec import vectors_config
from harness.training.learner import Learner
from harness.training.loop import Losses

SAMPLES, WIDTH, USERS = 512, 16, 96
TOKENIZER = TokenizerConfig(rqvae=RQVAEConfig(hidden_sizes=(WIDTH, WIDTH), code_dim=8))
CONFIG = ETEGRecConfig(
    vectors=vectors_config(WIDTH),
    tokenizer=TOKENIZER,
    generator=T5Config(d_model=WIDTH, d_ff=WIDTH, num_heads=2, d_head=8),
    batch_size=SAMPLES,
    chunk_size=SAMPLES,
)


def random_tokenizer() -> RQVAE:
    """Random codes for random vectors."""
    tokenizer = RQVAE(WIDTH, TOKENIZER.rqvae, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(tokenizer.codebooks_LKD, std=0.3)
    return tokenizer


def training_on(folder: Path, device: torch.device) -> ETEGRecTraining:
    """ETEGRec's training with random weights."""
    torch.manual_seed(0)
    data = dataset()
    model = ETEGRec(CONFIG, torch.randn(data.num_items, WIDTH), random_tokenizer())
    return ETEGRecTraining(model.to(device), data, FitContext(0, folder, device=device))


class Step(NamedTuple):
    """What a step needs."""

    learners: list[Learner]
    losses: Callable[[Batch], Iterable[Losses]]
    batches: list[Batch]  # a small one, then one of the paper's size


def steps(training: ETEGRecTraining) -> dict[str, Step]:
    """Each kind of step of a generator."""
    model, samples = training.model, PrefixSamples.of(training.dataset)
    batches = [next(prefix_batches(samples, size, np.random.default_rng(0))) for size in (8, SAMPLES)]
    generator, recommender, tokenizer = model.generator, training.recommender_learner(), training.tokenizer_learner()

    def of_phase(name: str, batch: Batch) -> Iterator[Losses]:
        training.thaw(name)
        yield from training.losses(name, batch, aligned=True)

    def of_tiger(batch: Batch) -> Iterator[Losses]:
        training.thaw("recommender")
        own = own_samples(generator, batch, GPU, ALONE)
        for loss in token_losses(generator, own.histories, own.targets_B, model.codes_NL):
            yield {"total": loss}

    return {
        "recommender": Step([recommender], lambda batch: of_phase("recommender", batch), batches),
        "tiger": Step([Learner(adamw(generator.parameters(), 1e-3, 0.05), max_norm=1.0)], of_tiger, batches),
        "tokenizer": Step([tokenizer], lambda batch: of_phase("tokenizer", batch), batches),
        "joint": Step([tokenizer, recommender], lambda batch: of_phase("joint", batch), batches),
    }


def pretraining_losses(rqvae: RQVAE, vectors_NZ: Tensor, rows_B: Tensor) -> Losses:
    """Those of an RQ-VAE."""
    vectors_BZ = vectors_NZ.index_select(0, rows_B)
    return {"total": tokenizer_loss(rqvae(vectors_BZ), vectors_BZ, rqvae.config)}


def letter_losses(rqvae: RQVAE, vectors_NZ: Tensor, rings: GroupRings, rows_B: Tensor) -> Losses:
    """Those of LETTER's tokenizer but the collaborative one."""
    vectors_BZ = vectors_NZ.index_select(0, rows_B)
    output = rqvae(vectors_BZ, sinkhorn_at_level(rqvae.config.num_levels - 1))
    codes_BL = output.quantized.codes_BL
    diversity = diversity_loss(rqvae.codebooks_LKD, codes_BL, draw_partners(codes_BL, rings))
    return {"total": tokenizer_loss(output, vectors_BZ, rqvae.config) + diversity}


def main() -> None:
    """Prints the counts."""
    gpu, told = StandInGpu(), {}
    with tempfile.TemporaryDirectory() as folder, gpu:
        training = training_on(Path(folder), GPU)
        kinds = steps(training)
        for name, (learners, losses, batches) in kinds.items():
            for batch in batches:  # the first step makes what later ones find
                counts(gpu)
                for piece in losses(batch):
                    piece["total"].backward()
                for learner in learners:
                    learner.step()
            told[name] = counts(gpu)
        told["bf16"] = bf16_counts(gpu, kinds["recommender"])
        training.model.requires_grad_(False)
        recommender = training.recommender()
        told["preparing an evaluation"] = counts(gpu)
        recommender.recommend(training.dataset.validation.histories.take(np.arange(USERS)), 10)
        told["evaluation"] = counts(gpu)
        few = training.dataset.validation.histories.take(np.arange(4))
        for _ in exact_scores(recommender.model, few, recommender.codes.codes, recommender.trie):
            told["exact decoding"] = counts(gpu)
        told |= tokenizer_counts(gpu, training.model.vectors_ND[1:])
        training.refresh_codes()
        told["refresh"] = counts(gpu)
    print(json.dumps(told | {"users": USERS}, indent=1))


def bf16_counts(gpu: StandInGpu, step: Step) -> dict[str, Any]:
    """Those of a step whose forward pass is in bf16, and the number formats of its losses and gradients.

    Attention counts here as CUDA's kernels: its formula would cast the inputs of each operation.
    """
    (learner,), losses, batches = step
    with autocast_lists.registered(), fused.installed(gpu):
        for batch in batches:
            counts(gpu)
            with torch.autocast("gpu", torch.bfloat16):
                piece = next(iter(losses(batch)))
            piece["total"].backward()
            of_gradients = sorted({str(x.grad.dtype) for x in learner.parameters() if x.grad is not None})
            learner.step()
    of_losses = sorted({str(value.dtype) for value in piece.values()})
    return counts(gpu) | {"losses": of_losses, "gradients": of_gradients}


def tokenizer_counts(gpu: StandInGpu, vectors_NZ: Tensor) -> dict[str, Any]:
    """Those of a step of pre-training and of LETTER's tokenizer."""
    rqvae, rows_B = random_tokenizer().to(GPU), torch.arange(1024, device=GPU)
    learner = Learner(adamw(rqvae.parameters(), 1e-3, 0.05), max_norm=1.0)
    rings = GroupRings.of(torch.arange(256, device=GPU).expand(3, -1) // 32)
    told = {}
    for name, losses in (
        ("pre-training", lambda: pretraining_losses(rqvae, vectors_NZ, rows_B)),
        ("letter", lambda: letter_losses(rqvae, vectors_NZ, rings, rows_B)),
    ):
        counts(gpu)
        losses()["total"].backward()
        learner.step()
        told[name] = counts(gpu)
    return told


if __name__ == "__main__":
    main()
