"""What a finished run records: the facts of the run, every user's target and its rank, the training history."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, get_args, get_origin

import polars as pl

from results.errors import ResultsError


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The facts of one run, as plain JSON (run.json). Everything that a table must know to be fair stands here."""

    dataset: str
    dataset_fingerprint: str
    synthetic: bool  # made-up data: tables label it
    method: str  # registry name: tiger-sas
    title: str  # as the paper prints it: TIGER-SAS
    variant: str  # folder name: full, wo-sia
    variant_title: str  # as the paper's Table 4 prints it: w/o SIA
    config_digest: str
    seed: int
    contract: dict[str, Any]  # how the run was judged: top_k, num_beams, decoding ...
    contract_digest: str
    preset: str  # paper, lite
    recipe: str  # default: also where another was asked for that the method does not have
    num_parameters: int
    seconds: dict[str, float]  # stage → wall-clock seconds
    peak_memory_mb: float
    device: str
    threads: int
    created: str  # ISO 8601, UTC
    trials: int = 0  # hyper-parameter trials that preceded the run
    # Runs of earlier versions lack what follows.
    family: str = ""  # no training, item-scoring, generative
    place: int | None = None  # in the tables: rows go up by it
    variant_place: int = 0  # among the method's variants; 0: the method as it is
    is_proposed: bool = False  # tables compare it with the best of the others
    preset_changes: dict[str, Any] | None = None  # dotted field → value, where preset and recipe differ
    split: str = "leave-one-out"
    whole: str = ""  # fingerprint of the data before any split; empty: not recorded
    num_users: int = 0  # whose cases were judged, where a user has several; 0: each case is of another user
    num_items: int = 0  # 0: not recorded
    processes: int = 1  # that trained it together
    precision: str = "fp32"
    assumptions: list[str] = field(default_factory=list)  # declared substitutes for what could not be had
    health: dict[str, Any] = field(
        default_factory=dict
    )  # see `results.terminal.panels.health_lines` for the known keys

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RunRecord":
        """The record of a run.json; `ResultsError` names fields that are missing, unknown or of another type."""
        fields = dataclasses.fields(cls)
        known = {f.name for f in fields}
        required = {
            f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        missing, unknown = sorted(required - set(content)), sorted(set(content) - known)
        if missing or unknown:
            found = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"also has {', '.join(unknown)}"] * bool(unknown)
            raise ResultsError(f"a run record must hold the known fields, but it {' and '.join(found)}")
        for one in fields:
            if one.name in content and not _is_of(content[one.name], one.type):
                told = getattr(one.type, "__name__", one.type)
                raise ResultsError(f"'{one.name}' of a run record must be {told}, but it is {content[one.name]!r}")
        return cls(**content)


def _is_of(value: Any, wanted: Any) -> bool:
    """Whether the value is of the type, as far as JSON tells: elements are not looked at, and a float may be whole."""
    kinds = [get_origin(one) or one for one in (get_args(wanted) if isinstance(wanted, UnionType) else [wanted])]
    return isinstance(value, (*kinds, int) if float in kinds else tuple(kinds))


METRICS_SCHEMA = pl.Schema(
    {
        "dataset": pl.String,
        "method": pl.String,
        "variant": pl.String,
        "config_digest": pl.String,
        "seed": pl.Int64,
        "contract_digest": pl.String,
        "metric": pl.String,
        "k": pl.Int32,
        "value": pl.Float64,
    }
)

RANKS_SCHEMA = pl.Schema(
    {
        "user": pl.Int32(),  # the case's number; where a user has several, the cases' `owner` tells whose they are
        "target": pl.Int32(),
        "rank": pl.UInt32(),  # 1-based; 0: not in the list
        "top_items": pl.List(pl.Int32()),  # best first; 0: a generated sequence that decodes to no item
        "invalid": pl.UInt16(),  # sequences in the list that decode to no item
    }
)

CASES_SCHEMA = pl.Schema(
    {
        "user": pl.Int32(),
        "history_length": pl.Int32(),  # items of the history as the method was given it
        "target_count": pl.Int32(),  # how often the target occurs in the training sequences
        # Items, the target included, that share its codes but for the de-duplication level; null: there are no codes.
        "target_sharers": pl.Int32(),
        "new_user": pl.Boolean(),  # nothing was learnt of this user
        "owner": pl.Int32(),  # the first case of the same user: itself, where a user has one
    }
)

HISTORY_SCHEMA = pl.Schema(
    {
        "stage": pl.String,
        "phase": pl.String,
        "epoch": pl.Int32,  # epochs done
        "quantity": pl.String,  # score, train_seconds, score_seconds, loss/<name>, measure/<name>, learning_rate/<name>
        "value": pl.Float64,
    }
)

_GROUPS = {"losses": "loss", "measures": "measure", "learning_rates": "learning_rate"}
_SCALARS = ("score", "train_seconds", "score_seconds")


def ranks_frame(ranks: Any, targets: Any, top_items: Any, invalid: Any) -> pl.DataFrame:
    """The ranks table from arrays: (U,) ranks, (U,) targets, (U, k) top items, (U,) invalid counts; users 0..U-1."""
    return pl.DataFrame(
        {
            "user": pl.Series(range(len(ranks)), dtype=pl.Int32),
            "target": pl.Series(targets),
            "rank": pl.Series(ranks),
            "top_items": pl.Series(top_items).arr.to_list(),
            "invalid": pl.Series(invalid),
        }
    ).cast(RANKS_SCHEMA)


def cases_frame(
    history_lengths: Any, target_counts: Any, target_sharers: Any = None, new_users: Any = None, owners: Any = None
) -> pl.DataFrame:
    """The cases table from (U,) arrays; users 0..U-1.

    No sharers: there are no codes; no new users: all are known; no owners: each case is of another user.
    """
    num_users = len(history_lengths)
    return pl.DataFrame(
        {
            "user": pl.Series(range(num_users), dtype=pl.Int32),
            "history_length": pl.Series(history_lengths),
            "target_count": pl.Series(target_counts),
            "target_sharers": pl.Series([None] * num_users if target_sharers is None else target_sharers),
            "new_user": pl.Series([False] * num_users if new_users is None else new_users),
            "owner": pl.Series(range(num_users) if owners is None else owners),
        }
    ).cast(CASES_SCHEMA)


def history_frame(epochs: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """The history table, one row per epoch and quantity.

    An epoch is a mapping with `stage`, `phase`, `epoch`, and optionally `losses`, `measures`, `learning_rates` (name →
    value), `score` (None where the epoch was not scored), `train_seconds`, `score_seconds`.
    """
    rows: list[tuple[Any, ...]] = []
    for row in epochs:
        place = (row["stage"], row["phase"], row["epoch"])
        quantities = {name: row.get(name) for name in _SCALARS}
        for group, prefix in _GROUPS.items():
            quantities.update({f"{prefix}/{name}": value for name, value in row.get(group, {}).items()})
        rows.extend((*place, name, float(value)) for name, value in quantities.items() if value is not None)
    return pl.DataFrame(rows, schema=HISTORY_SCHEMA, orient="row")


def conform(frame: pl.DataFrame, schema: pl.Schema, what: str) -> pl.DataFrame:
    """`frame` with the schema's columns and types; `ResultsError` for a missing column or a value out of range."""
    missing = [name for name in schema if name not in frame.columns]
    if missing:
        raise ResultsError(f"{what} must hold the columns {', '.join(schema)}, but lacks {', '.join(missing)}")
    try:
        return frame.select(list(schema)).cast(schema)
    except pl.exceptions.PolarsError as error:
        raise ResultsError(f"{what} must fit its column types, but {str(error).splitlines()[0]}") from None
