"""SID and CID: P5's item ids, from order and from co-occurrence, over the project's generator (METHODS B.6)."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import Field

from baselines.p5_ids import CollaborativeIds, SequentialIds, build_ids
from harness.config import Config
from harness.data.dataset import Dataset
from harness.generative.generator import (
    LITE_T5,
    LITE_TRAINING,
    TINY_T5,
    TINY_TRAINING,
    CodeRecommender,
    GeneratorTraining,
    code_method,
    fit_on_codes,
)
from harness.interfaces import ArtifactKind, Artifacts, FitContext, Method, Need
from harness.nn.code_seq2seq import CodeSeq2Seq
from harness.nn.pretrained import load_blocks, weights_file
from harness.nn.t5 import T5Config


class P5Config(Config):
    """Item ids, and the generator that spells them."""

    generator: T5Config = Field(default_factory=T5Config)
    training: GeneratorTraining = Field(default_factory=GeneratorTraining)
    pretrained: str | None = Field(
        None,
        description="a T5 whose encoder and decoder the generator starts from: a folder with model.safetensors, or "
        "OWNER/NAME@REVISION of the Hugging Face hub; none: drawn weights",
    )


class SIDConfig(P5Config):
    """P5 with sequential ids."""

    ids: SequentialIds = Field(default_factory=SequentialIds)


class CIDConfig(P5Config):
    """P5 with collaborative ids."""

    ids: CollaborativeIds = Field(default_factory=CollaborativeIds)


IDS = ArtifactKind("p5-ids", build_ids, is_seeded=False)


def needs(config: Any) -> dict[str, Need]:
    """The item ids."""
    return {"ids": Need(IDS, config.ids)}


def fit(config: P5Config, dataset: Dataset, artifacts: Artifacts, context: FitContext) -> CodeRecommender:
    """The generator trained on the ids; each names one item, so there is no de-duplication level."""
    start = partial(start_from, config.pretrained) if config.pretrained else None
    return fit_on_codes(
        artifacts["ids"], config.generator, config.training, dataset, context, has_dedup_level=False, start=start
    )


def start_from(name: str, model: CodeSeq2Seq) -> None:
    """Gives the generator the pre-trained blocks; rows of id tokens stay as they are drawn."""
    load_blocks(model, weights_file(name))


def assumptions(config: P5Config) -> list[str]:
    """What stands in for the published, as one line each."""
    trunk = f"a generator that starts from {config.pretrained}" if config.pretrained else "this project's generator"
    lines = [
        f"{trunk} over id tokens stands in for a pre-trained T5 over P5's prompts; schedule and loss are those of TIGER"
    ]
    if isinstance(config, SIDConfig):
        lines.append(f"SID: numbers are split into groups of digits to base {config.ids.base}, not into word pieces")
    return lines


GRID = {"training.learning_rate": (5e-3, 3e-3, 1e-3), "generator.dropout": (0.1, 0.2, 0.3)}


def method_of(name: str, title: str, place: int, lite: P5Config, tiny_ids: dict[str, int]) -> Method:
    """The method whose ids are those of the `lite` config's kind; `paper` has the kind's defaults."""
    return code_method(
        name=name,
        title=title,
        groups=("paper", "generative"),
        place=place,
        config=type(lite),
        fit=fit,
        needs=needs,
        presets={"paper": type(lite)(), "lite": lite},
        tiny={
            "generator": TINY_T5,
            "training": {**TINY_TRAINING, "epochs": 60, "evaluate_every": 30},
            "ids": tiny_ids,
        },
        grid=GRID,
        assumptions=assumptions,
    )


SID = method_of("p5-sid", "SID", 280, SIDConfig(generator=LITE_T5, training=LITE_TRAINING), {"first": 0, "base": 4})
CID = method_of(
    "p5-cid",
    "CID",
    290,
    CIDConfig(ids=CollaborativeIds(largest=100), generator=LITE_T5, training=LITE_TRAINING),
    {"clusters": 3, "largest": 4},
)
