"""By what rules a run is judged: a contract's values, the digest that names them, and documented sets of values."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Every rule and the value that this harness takes (METHODS A.8).
DEFAULTS: dict[str, Any] = {
    "top_k": 10,
    "num_beams": 20,
    "decoding": "trie",
    "candidates": "all",
    "history": "kept",
    "hit_unit": "item",
    "ties": "item id",
    "cold_targets": "kept",
    "selection": "validation NDCG@10",
}
ALWAYS = ("top_k", "num_beams", "decoding")  # in each digest; the others, which came later, where they differ
SEARCH = ("num_beams", "decoding")  # concern methods that generate; what they change needs another evaluation
READING = ("candidates", "history", "hit_unit", "ties")  # what stored outcomes can be read by, one at a time


@dataclass(frozen=True)
class NamedContract:
    """Rules of others: the values that are not ours, and where they come from."""

    values: Mapping[str, Any]
    source: str


NAMED = {
    "s3rec": NamedContract(
        {"history": "removed"},
        "S3-Rec, run_finetune_full.py, the source of its full-ranking tables: items of the history get no rank. Its "
        "run_finetune_sample.py ranks 99 negatives instead (candidates).",
    ),
    "letter": NamedContract(
        {"hit_unit": "codes", "decoding": "trie", "num_beams": 20},
        "LETTER, LETTER-TIGER/evaluate.py: a sequence that equals the target's is a hit, whatever items share it; "
        "beams over a trie. It selects by validation loss, which is not done here.",
    ),
    "minionerec": NamedContract(
        {"hit_unit": "codes", "decoding": "trie", "num_beams": 50},
        "MiniOneRec, evaluate.py: 50 beams over the known sequences, a hit is an equal sequence. It splits by time, "
        "which is not done here.",
    ),
    "hstu": NamedContract(
        {"history": "removed"},
        "HSTU, generative_recommenders/research/data/eval.py: filter_invalid_ids leaves past items out. It has no "
        "validation and reads the test split at each epoch, which is not done here.",
    ),
}


def digest(content: Any) -> str:
    """16 hex digits of the SHA-256 of `content` as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compact(contract: Mapping[str, Any]) -> dict[str, Any]:
    """What a digest is taken of: the rules of `ALWAYS`, and others that are not the default.

    So a rule that is made explicit later leaves the digests of what was judged by its default as they were.
    """
    kept = (name for name, value in contract.items() if name in ALWAYS or value != DEFAULTS.get(name))
    return {name: contract[name] for name in kept}


def contract_digest(contract: Mapping[str, Any]) -> str:
    """The digest that names a contract."""
    return digest(compact(contract))


def told(contract: Mapping[str, Any], split: str) -> str:
    """Every rule and its value, those that the record of an earlier version lacks included."""
    return ", ".join(f"{name}={value}" for name, value in {**DEFAULTS, **contract, "split": split}.items())


def contradictions(contract: Mapping[str, Any]) -> str:
    """Why outcomes cannot be read by these rules at once, in one line; empty where they can."""
    given = [name for name in READING if contract.get(name, DEFAULTS[name]) != DEFAULTS[name]]
    if len(given) < 2:
        return ""
    values = ", ".join(f"{name}={contract[name]}" for name in given)
    return f"of {', '.join(READING)} one may differ from the default, but got {values}; keep one of them"
