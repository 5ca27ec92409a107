"""DIGER's training. Oracles: what may move and what may not, equality to the bit, losses written out."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.diger import DIGER, METHOD, DIGERConfig, DIGERTraining
from harness.config import merged
from harness.errors import FieldError
from harness.generative.generator import Batch
from harness.generative.tokenizer.fit import kmeans, start_codebooks
from harness.generative.tokenizer.rqvae import RQVAE
from harness.interfaces import FitContext, Progress
from harness.nn.kernels.switch import native_kernels, plain_kernels
from harness.testing.planted import NUM_ITEMS, planted_dataset
from harness.training.loop import train

CONFIG = merged(METHOD.presets["lite"], METHOD.tiny)


def small_training(folder: Path, context: FitContext | None = None, **changes: Any) -> DIGERTraining:
    """A training on the planted pattern with the same weights and codes at each call."""
    exploration = CONFIG.exploration.replace(**changes.pop("exploration", {}))
    training = CONFIG.training.replace(epochs=3, evaluate_every=3, warmup_epochs=0)
    config = CONFIG.replace(**{"exploration": exploration, "training": training, **changes})
    stream = torch.Generator().manual_seed(0)
    vectors = torch.randn(NUM_ITEMS, 8, generator=stream)
    rqvae = RQVAE(8, config.tokenizer.rqvae, generator=stream)
    start_codebooks(rqvae, vectors, kmeans(config.tokenizer.rqvae.codebook_size, seed=0))
    context = context or FitContext(0, folder)
    return DIGERTraining(DIGER(config, vectors, rqvae, context), planted_dataset(), context)


def first_batch(training: DIGERTraining) -> Batch:
    return next(iter(training.plan().batches(np.random.default_rng(0))))


def state(training: DIGERTraining) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in training.model.state_dict().items()}


def part(name: str) -> str:
    """The part of the model that a tensor belongs to."""
    return ".".join(name.split(".")[:2]) if name.startswith("tokenizer") else name.split(".")[0]


@pytest.mark.parametrize("decay", ["none", "frqud", "sdud", "both"])
def test_the_generators_loss_reaches_no_codebook_and_the_noises_scale_only_where_it_is_learned(
    tmp_path: Path, decay: str
) -> None:
    training = small_training(tmp_path, exploration={"decay": decay})
    training.begin(0)
    latent, *generator = training.losses(training.prepared(first_batch(training)))
    reached = []
    for pieces in ([latent], generator):
        training.model.zero_grad(set_to_none=True)
        sum(piece["total"] for piece in pieces).backward()
        gradients = {name: each.grad for name, each in training.model.named_parameters() if each.grad is not None}
        reached.append({part(name) for name, gradient in gradients.items() if gradient.abs().max() > 0})
    scale = {"sigma_L"} if decay in ("sdud", "both") else set()
    assert reached[0] == {"tokenizer.codebooks_LKD"} | scale
    assert reached[1] == {"generator"} | scale


def test_sdud_weighs_the_generators_loss_as_written_out(tmp_path: Path) -> None:
    training = small_training(tmp_path, exploration={"decay": "sdud", "sigma": 0.8, "offset": 0.7})
    training.begin(0)
    latent, *generator = training.losses(training.prepared(first_batch(training)))
    assert latent["total"].item() == pytest.approx(latent["latent"].item() + math.log(1.5))
    for piece in generator:
        assert piece["total"].item() == pytest.approx(piece["rec"].item() / (2 * 1.5**2))


@pytest.mark.parametrize(("layers", "moved"), [(0, set()), (1, {"tokenizer.encoder.2"})])
def test_an_epoch_moves_generator_codebooks_and_the_layers_that_are_named(
    tmp_path: Path, layers: int, moved: set[str]
) -> None:
    training = small_training(tmp_path, trained_encoder_layers=layers)
    before = state(training)
    train(replace(training.plan(), epochs=1, score=None), training.context)
    after = state(training)
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert {name.rsplit(".", 1)[0] for name in changed if name.startswith("tokenizer.")} - {"tokenizer"} == moved
    assert {part(name) for name in changed} - {"codes_NL", "tokenizer.encoder"} == {
        "generator",
        "tokenizer.codebooks_LKD",
        "usage_K",
    }


def test_codes_stay_inside_an_epoch_and_are_the_present_tokenizers_at_its_end(tmp_path: Path) -> None:
    training = small_training(tmp_path, learning_rate_tokenizer=0.3)
    model, seen = training.model, []
    begin = model.codes_NL.clone()
    plan = training.plan()

    def batches(stream: np.random.Generator) -> Any:
        for batch in plan.batches(stream):
            seen.append(model.codes_NL.clone())
            yield batch

    (row,) = train(replace(plan, epochs=1, score=None, batches=batches), training.context)
    assert len(seen) > 2
    assert all(torch.equal(codes, begin) for codes in seen)
    changed = (model.codes_NL != begin).any(dim=1)[1:].double().mean().item()
    assert row["measures"]["codes_changed"] == pytest.approx(changed)
    assert changed > 0
    assert len({tuple(codes) for codes in model.codes_NL[1:].tolist()}) == NUM_ITEMS
    assert model.refresh_codes() == 0


def test_a_fit_that_is_interrupted_ends_with_the_same_scale_usage_codes_and_weights_to_the_bit(tmp_path: Path) -> None:
    ends = []
    for name in ("whole", "cut"):

        def interrupt(progress: Progress, name: str = name) -> None:
            if name == "cut" and progress.epoch == 2:
                raise KeyboardInterrupt

        options = {"exploration": {"decay": "both"}, "learning_rate_tokenizer": 0.05}
        training = small_training(tmp_path, FitContext(0, tmp_path / name, report=interrupt), **options)
        if name == "cut":
            with pytest.raises(KeyboardInterrupt):
                train(training.plan(), training.context)
            training = small_training(tmp_path, FitContext(0, tmp_path / name), **options)
        history = train(training.plan(), training.context)
        ends.append((state(training), [(row["losses"], row["measures"], row["score"]) for row in history]))
    (whole, rows), (cut, cut_rows) = ends
    assert rows == cut_rows
    assert len({row[1]["sigma"] for row in rows}) == 3
    assert all(torch.equal(tensor, cut[name]) for name, tensor in whole.items())


def test_losses_of_each_epoch_are_the_same_in_all_forms_of_the_kernels(tmp_path: Path) -> None:
    found = {}
    for name, form in {"plain": plain_kernels, "native": native_kernels, "fast": None}.items():
        training = small_training(tmp_path, FitContext(0, tmp_path / name), exploration={"decay": "both"})
        plan = replace(training.plan(), score=None)
        if form is None:
            found[name] = train(plan, training.context)
        else:
            with form():
                found[name] = train(plan, training.context)
    for name in ("native", "fast"):
        for row, plain in zip(found[name], found["plain"], strict=True):
            assert row["losses"] == pytest.approx(plain["losses"], abs=1e-4, rel=1e-4)


def test_in_bf16_the_tokenizers_losses_and_codes_are_in_full_precision(tmp_path: Path) -> None:
    training = small_training(tmp_path, exploration={"decay": "both"})
    training.begin(0)
    before = training.model.codes_NL.clone()
    with torch.autocast("cpu", torch.bfloat16):
        pieces = list(training.losses(training.prepared(first_batch(training))))
        assert training.model.refresh_codes() == 0
    assert {value.dtype for piece in pieces for value in piece.values()} == {torch.float32}
    assert torch.equal(before, training.model.codes_NL)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trained_encoder_layers": 3}, "trained_encoder_layers <= 2 must hold"),
        ({"exploration": {"decay": "sdud", "sigma": 0.0}}, r"sigma > 0 must hold where it is learned \(decay=sdud\)"),
    ],
)
def test_configs_that_cannot_work_are_refused_in_one_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(FieldError, match=told) as error:
        merged(METHOD.presets["lite"], changes)
    assert "\n" not in str(error.value)


def test_assumptions_tell_what_stands_in_for_the_published() -> None:
    def told(config: DIGERConfig) -> str:
        return " / ".join(METHOD.assumptions(config))

    lite = METHOD.presets["lite"]
    assert "tfidf-svd" in told(lite)
    assert "FrqUD counts nearest codes" in told(lite)
    assert "FrqUD" not in told(METHOD.recipes["official"](lite))
