"""Finished runs for reports: every method and ablation, made up, written through the store."""

from pathlib import Path
from typing import Any

import numpy as np

from results.store.runs import UserTables, run_folder, write_run
from results.store.schema import RunRecord, cases_frame, history_frame, ranks_frame

NUM_USERS = 300
METHODS = {  # registry name → title, share of users whose target is found
    "popularity": ("Popularity", 0.05),
    "markov": ("Markov", 0.5),
    "sasrec": ("SASRec", 0.4),
    "tiger": ("TIGER", 0.3),
    "etegrec": ("ETEGRec", 0.35),
}
VARIANTS = {"wo-sia": "w/o SIA", "wo-at-finetuned": "w/o AT, fine-tuned"}


def write_report_runs(runs_dir: Path, dataset: str = "scientific2018") -> None:
    """A run of every method with two seeds, and of two ablations; the generative ones have codes."""
    for seed in (0, 1):
        for place, (method, (title, share)) in enumerate(METHODS.items()):
            _write(runs_dir, dataset, method, title, "full", title, share, seed, place)
        for place, (variant, title) in enumerate(VARIANTS.items(), len(METHODS)):
            _write(runs_dir, dataset, "etegrec", "ETEGRec", variant, title, 0.34, seed, place)


def _write(
    runs_dir: Path,
    dataset: str,
    method: str,
    title: str,
    variant: str,
    variant_title: str,
    share: float,
    seed: int,
    place: int,
) -> None:
    random = np.random.default_rng([place, seed])
    ranks_U = np.where(random.random(NUM_USERS) < share, random.integers(1, 11, NUM_USERS), 0)
    has_codes = method in ("tiger", "etegrec")
    digest = f"{place:012x}"
    record = RunRecord(
        dataset=dataset,
        dataset_fingerprint="f00d" * 4,
        synthetic=False,
        method=method,
        title=title,
        variant=variant,
        variant_title=variant_title,
        config_digest=digest,
        seed=seed,
        contract={"top_k": 10, "num_beams": 20, "decoding": "trie"},
        contract_digest="abcd" * 4,
        preset="lite",
        recipe="default",
        num_parameters=4_117_248 * has_codes,
        seconds=({"tokenizer": 12.5} if has_codes else {}) | {"fit": 300.0 + place, "test": 9.0},
        peak_memory_mb=812.4,
        device="cpu",
        threads=1,
        created=f"2025-01-0{place + 1}T00:00:00+00:00",
        assumptions=["text vectors from tfidf-svd instead of another encoder"] * (method == "tiger"),
        health={"used_codes": [256, 250, 249], "perplexity": [200.5, 190.0, 180.25], "collision_rate": 0.05}
        if has_codes
        else {},
        place=10 * list(METHODS).index(method),
        variant_place=0 if variant == "full" else 1 + list(VARIANTS).index(variant),
        is_proposed=method == "etegrec",
    )
    write_run(
        run_folder(runs_dir, dataset, method, variant, digest, seed),
        record,
        UserTables(
            ranks=ranks_frame(
                ranks_U,
                np.arange(NUM_USERS) % 7 + 1,
                np.tile(np.arange(1, 11), (NUM_USERS, 1)),
                np.zeros(NUM_USERS, dtype=np.int32),
            ),
            cases=cases_frame(np.arange(NUM_USERS) % 12 + 1, np.arange(NUM_USERS) % 40),
        ),
        history=history_frame(_epochs(has_codes)),
        config_toml=f"[{method}]\n",
        env={"python": "3.11", "packages": {"torch": "2"}},
    )


def _epochs(has_codes: bool) -> list[dict[str, Any]]:
    return [
        {
            "stage": "alternating" if has_codes else "generator",
            "phase": "tokenizer" if has_codes and epoch % 2 else "recommender",
            "epoch": epoch,
            "losses": {"total": 5.0 / epoch},
            "measures": {"codes_changed": 0.5 / epoch} if has_codes and epoch % 2 else {},
            "score": 0.01 * epoch,
        }
        for epoch in range(1, 9)
    ]
