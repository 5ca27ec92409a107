"""Runs made up for the tests, written through the store."""

from pathlib import Path
from typing import Any

import numpy as np

from results.store.outcomes import outcomes_frame
from results.store.runs import Run, UserTables, run_folder, write_run
from results.store.schema import RunRecord, cases_frame, history_frame, ranks_frame

CONTRACT = {"top_k": 10, "num_beams": 20, "decoding": "trie"}
PLACES = {"popularity": 10, "markov": 20, "sasrec": 130, "tiger": 300, "tiger-sas": 310, "letter": 350, "etegrec": 400}
VARIANTS = ("full", "wo-sia", "wo-psa", "wo-sia-psa", "wo-at", "wo-at-finetuned", "wo-ete")


def made_up_record(**changes: Any) -> RunRecord:
    """A record; every field can be changed by name."""
    fields: dict[str, Any] = {
        "dataset": "demo",
        "dataset_fingerprint": "f00d",
        "synthetic": False,
        "method": "tiger",
        "title": "TIGER",
        "variant": "full",
        "variant_title": "TIGER",
        "config_digest": "c0ffee0000000000",
        "seed": 0,
        "contract": CONTRACT,
        "contract_digest": "abcd",
        "preset": "paper",
        "recipe": "default",
        "num_parameters": 4_117_248,
        "seconds": {"tokenizer": 12.5, "generator": 300.0, "evaluation": 9.0},
        "peak_memory_mb": 812.4,
        "device": "cpu",
        "threads": 1,
        "created": "2025-01-01T00:00:00+00:00",
    }
    fields |= changes
    method, variant = fields["method"], fields["variant"]
    own = {
        "place": PLACES.get(method),
        "variant_place": VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS),
        "is_proposed": method == "etegrec",
    }
    return RunRecord(**{**own, **fields})


def made_up_ranks(num_users: int, hit_share: float, seed: int) -> np.ndarray:
    """(U,) ranks 1..10 for a share of the users, 0 for the others."""
    random = np.random.default_rng(seed)
    hit = random.random(num_users) < hit_share
    return np.where(hit, random.integers(1, 11, num_users), 0)


def write_made_up_run(
    runs_dir: Path, ranks: Any, cases: Any = None, outcomes: Any = None, history: Any = None, **changes: Any
) -> Run:
    """A finished run with the given ranks, in its place under `runs_dir`; cases of 5 items each if none are given.

    `outcomes`: their columns that matter to a test (`made_up_outcomes`); none: as a run of before.
    """
    record = made_up_record(**changes)
    ranks = np.asarray(ranks)
    top_k = record.contract["top_k"]
    frame = ranks_frame(
        ranks,
        targets=np.arange(len(ranks)) % 7 + 1,
        top_items=np.tile(np.arange(1, top_k + 1), (len(ranks), 1)),
        invalid=np.zeros(len(ranks), dtype=np.int32),
    )
    folder = run_folder(runs_dir, record.dataset, record.method, record.variant, record.config_digest, record.seed)
    users = UserTables(
        ranks=frame,
        cases=made_up_cases(len(ranks)) if cases is None else cases,
        outcomes=None if outcomes is None else made_up_outcomes(ranks, **outcomes),
    )
    told = made_up_history() if history is None else history
    return write_run(folder, record, users, history=told, config_toml="mu = 0.0003\n", env={"torch": "2"})


def made_up_outcomes(ranks: np.ndarray, **columns: Any) -> Any:
    """Outcomes of unlike codes, lists of 12 items and histories outside them, but for the given columns."""
    count = len(ranks)
    items = columns.pop("items", np.tile(np.arange(1, 13), (count, 1)))
    plain: dict[str, Any] = {
        "target": np.arange(count) % 7 + 1,
        "scores": -np.arange(items.shape[1], dtype=np.float32) * np.ones((count, 1), dtype=np.float32),
        "seen": np.zeros(items.shape, dtype=bool),
        "sharers": np.ones(items.shape, dtype=np.uint32),
        "target_sharers": np.ones(count),
        "target_seen": np.zeros(count, dtype=bool),
        "rank": ranks,
        "unseen_rank": ranks,
        "candidates": np.full(count, 200),
        "popular_ahead": np.full(count, np.nan),
        "code_rank": ranks,
        "code_ahead": np.maximum(ranks - 1, 0),
    }
    return outcomes_frame(np.full(count, items.shape[1]), items=items, **(plain | columns))


def made_up_cases(num_users: int) -> Any:
    """Cases of users who differ in nothing."""
    return cases_frame(np.full(num_users, 5), np.full(num_users, 3))


def made_up_history(epochs: int = 8) -> Any:
    """A stage whose loss falls and whose score, taken every second epoch, rises."""
    return history_frame(
        {
            "stage": "generator",
            "phase": "recommender",
            "epoch": epoch,
            "losses": {"total": 5.0 / epoch, "recommendation": 4.0 / epoch},
            "measures": {},
            "learning_rates": {"generator": 0.005},
            "score": 0.003 * epoch if epoch % 2 == 0 else None,
            "train_seconds": 10.0,
            "score_seconds": 1.0,
        }
        for epoch in range(1, epochs + 1)
    )
