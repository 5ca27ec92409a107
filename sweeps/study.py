"""Studies: what makes one, where it is stored, and how it is read back.

A study is named by what decides its numbers, so the same command on any machine means the same study.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import optuna
import polars as pl
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from harness.config import Config, digest
from harness.errors import HarnessError, UsageError, nearest
from harness.seeding import numpy_stream
from sweeps.spaces import Range, Space
from sweeps.trials import CACHED, COST, RECALL, error_of, is_ended, is_superseded, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

JOURNAL = ".journal"
SWEEP = "sweep"  # the study attribute that holds its `Sweep`
TRIALS = "trials"  # the study attribute that holds its budget
MAKING_SECONDS = 10.0  # how long a study may lack its attributes while another process makes it

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["median", "hyperband", "none"]


class StudyError(HarnessError):
    """A study that cannot be reached, or that holds something else than was asked for."""


class Sweep(Config):
    """Everything that decides a study's numbers, and everything needed to rebuild and check them."""

    method: str
    version: int  # of the method's code
    dataset: str  # its name
    fingerprint: str
    source: dict[str, Any]  # how the data set was named on the command line
    preset: str
    recipe: str
    tables: dict[str, Any]  # the user's changes, a table per method
    text: str | None
    config: dict[str, Any]  # the method's config, before a trial changes it
    contract: dict[str, Any]
    precision: Literal["fp32", "bf16"]
    seed: int
    space: Space
    sampler: Sampler
    pruner: Pruner
    curve: str | None = None  # the one field of a `--grid` study

    @property
    def deciding(self) -> dict[str, Any]:
        """The part that decides numbers, as plain JSON; paths and the way to say things are left out."""
        content = self.model_dump(mode="json")
        return {name: content[name] for name in DECIDING}

    @property
    def name(self) -> str:
        """The study's name where the user gives none."""
        curve = f"-grid-{self.curve.rstrip('_')}" if self.curve else ""
        return f"{self.method}-{self.dataset}{curve}-{digest(self.deciding)[:8]}"

    def disagreement(self, other: Sweep) -> str | None:
        """The first thing that decides numbers and that another sweep has otherwise, told in a few words."""
        ours, theirs = (dict(_flat(sweep.deciding)) for sweep in (self, other))
        for name in {**ours, **theirs}:
            if ours.get(name) != theirs.get(name):
                return f"{name}={ours.get(name)!r}, not {theirs.get(name)!r}"
        return None


DECIDING = (
    "method",
    "version",
    "dataset",
    "fingerprint",
    "config",
    "contract",
    "precision",
    "seed",
    "space",
    "sampler",
    "pruner",
)


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# Storage.


@dataclass(frozen=True)
class Place:
    """Where studies are stored: journal files in a folder, or a database that several machines reach."""

    folder: Path
    url: str | None = None
    heartbeat_seconds: int = 60  # of database storages
    grace_seconds: int = 120  # without a heartbeat, after which a trial's coordinator is given up

    def open(self, study_name: str) -> BaseStorage:
        """The storage that holds the study; `StudyError` when it cannot be reached."""
        return self.database() if self.url else journal(self.journal_path(study_name))

    def journal_path(self, study_name: str) -> Path:
        """The journal file of a study."""
        return self.folder / f"{study_name}{JOURNAL}"

    def database(self) -> RDBStorage:
        """The database, with heartbeats."""
        assert self.url is not None
        with quiet(), one_line_storage(self.url):
            return RDBStorage(
                driver_url(self.url),
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=self.heartbeat_seconds,
                grace_period=self.grace_seconds,
            )

    def names(self) -> list[str]:
        """The names of all studies here."""
        if self.url:
            with one_line_storage(self.url):
                return sorted(optuna.get_all_study_names(self.database()))
        return sorted(path.name.removesuffix(JOURNAL) for path in self.folder.glob(f"*{JOURNAL}"))


def journal(path: Path) -> JournalStorage:
    """The journal file's storage."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet():
        return JournalStorage(JournalFileBackend(str(path)))


def driver_url(url: str) -> str:
    """The URL with a driver that is installed: PostgreSQL's psycopg 3 where psycopg2 is absent."""
    from importlib.util import find_spec

    scheme, separator, rest = url.partition("://")
    if scheme in ("postgresql", "postgres") and find_spec("psycopg2") is None:
        if find_spec("psycopg") is None:
            raise StudyError(
                f"{url_without_password(url)} needs a PostgreSQL driver, but none is installed; "
                "pip install 'etegrec-harness[postgresql]'"
            )
        return f"postgresql+psycopg{separator}{rest}"
    return url


def url_without_password(url: str) -> str:
    """The URL as it may be printed."""
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{place}"


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings about what it calls experimental, and without its log."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@contextmanager
def one_line_storage(url: str) -> Iterator[None]:
    """Turns a database's failures into a `StudyError`."""
    from sqlalchemy.exc import SQLAlchemyError

    shown = url_without_password(url)
    try:
        yield
    except ImportError as error:
        raise StudyError(f"{shown} needs a driver, but {_first_line(error)}; install it") from None
    except SQLAlchemyError as error:
        reason = _first_line(getattr(error, "orig", None) or error)
        raise StudyError(
            f"--storage must be a database that can be reached, but {shown} answers: {reason}; check the URL, and "
            "that the server runs"
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# Making and joining.


def join(sweep: Sweep, name: str, trials: int, place: Place) -> optuna.Study:
    """The study of this sweep, made now or joined; its budget is raised to `trials`.

    `UsageError` if a study of this name holds another sweep, or has a larger budget already.
    """
    with quiet(), one_line_storage(place.url or str(place.folder)):
        storage = place.open(name)
        try:
            study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
            make(study, sweep, trials)
        except DuplicatedStudyError:
            study = optuna.load_study(study_name=name, storage=storage)
            _wait_until_made(study, sweep, trials)
        recorded = sweep_of(study)
        difference = recorded.disagreement(sweep)
        if difference:
            raise UsageError(
                f"study '{name}' was made with {difference}; give the command that made it, or another --study"
            )
        budget = int(study.user_attrs[TRIALS])
        if trials < budget:
            raise UsageError(f"study '{name}' has --trials {budget}, but got {trials}; give {budget} or more")
        if trials > budget:
            queue_grid(study, sweep, trials)
            study.set_user_attr(TRIALS, trials)
    return study


def make(study: optuna.Study, sweep: Sweep, trials: int) -> None:
    """Queues a grid's points and records the sweep; the record comes last, so a study that has it is whole."""
    queue_grid(study, sweep, trials)
    study.set_user_attr(TRIALS, trials)
    study.set_user_attr(SWEEP, sweep.model_dump(mode="json"))


def queue_grid(study: optuna.Study, sweep: Sweep, trials: int) -> None:
    """Queues the first `trials` points of a grid that are not queued yet: a curve's in order, others shuffled."""
    if sweep.sampler != "grid":
        return
    points = list(sweep.space.points())
    if sweep.curve is None:
        points = [points[index] for index in numpy_stream(sweep.seed, "sweep", "grid").permutation(len(points))]
    present = [trial.system_attrs.get("fixed_params") for trial in study.get_trials(deepcopy=False)]
    for point in points[:trials]:
        if point not in present:
            study.enqueue_trial(point)


def _wait_until_made(study: optuna.Study, sweep: Sweep, trials: int) -> None:
    """Lets another process finish making the study, and makes it if that process seems to have died over it."""
    deadline = time.monotonic() + MAKING_SECONDS
    while SWEEP not in study.user_attrs:
        if time.monotonic() > deadline:
            make(study, sweep, trials)
            return
        time.sleep(0.2)


def sweep_of(study: optuna.Study) -> Sweep:
    """What the study searches; `StudyError` for a study of another program."""
    content = study.user_attrs.get(SWEEP)
    if content is None:
        raise StudyError(f"study '{study.study_name}' was not made by harness sweep; choose another --study")
    return Sweep.model_validate(content)


# Reading.


@dataclass(frozen=True)
class StudySummary:
    """A stored study, read once; what is asked of it afterwards is of that moment."""

    name: str
    sweep: Sweep
    budget: int
    trials: tuple[FrozenTrial, ...]
    study: optuna.Study

    @property
    def counts(self) -> dict[str, int]:
        """How many trials are complete, pruned, failed (with an error of their own), superseded, running, waiting."""
        found = Counter(state_of(trial) for trial in self.trials)
        return {state: found[state] for state in STATES}

    @property
    def ended(self) -> int:
        """Trials that ended and count."""
        return sum(map(is_ended, self.trials))

    @cached_property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest validation NDCG@10, the first of equals; None where none is complete."""
        complete = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)

    @property
    def epochs(self) -> int:
        """Epochs that all trials trained, the superseded ones too."""
        return sum(int(cost_of(trial)["epochs"]) for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all trials' processes, waits for shared stages included."""
        return sum(cost_of(trial)["seconds"] for trial in self.trials)

    @property
    def peak_memory_mb(self) -> float:
        """The most that a process of any trial held, in MiB."""
        return max((cost_of(trial)["peak_memory_mb"] for trial in self.trials), default=0.0)


STATES = ("complete", "pruned", "failed", "superseded", "running", "waiting")


def state_of(trial: FrozenTrial) -> str:
    """The trial's state, one of `STATES`."""
    if trial.state == TrialState.FAIL:
        return "superseded" if is_superseded(trial) else "failed"
    return trial.state.name.lower()


def note_of(trial: FrozenTrial) -> str:
    """What else is to be said of the trial: its error, why it was superseded, or that nothing had to be fitted."""
    if trial.state == TrialState.FAIL:
        return error_of(trial) or reason_of(trial)
    return "cached" if trial.user_attrs.get(CACHED) else ""


def cost_of(trial: FrozenTrial) -> dict[str, float]:
    """Epochs, seconds and peak memory that the trial took."""
    return {"epochs": 0, "seconds": 0.0, "peak_memory_mb": 0.0, **trial.user_attrs.get(COST, {})}


def load_studies(where: str | Path | Place) -> list[StudySummary]:
    """All studies of a folder of journals, or of a database URL, by name; those of other programs are left out."""
    place = where if isinstance(where, Place) else place_of(where)
    return [summary for name in place.names() if (summary := _summary(name, place)) is not None]


def load_named(prefix: str, place: Place) -> StudySummary:
    """The one study whose name begins so; `UsageError` if there is none, or more than one."""
    names = place.names()
    found = [name for name in names if name == prefix] or [name for name in names if name.startswith(prefix)]
    if len(found) != 1:
        where = url_without_password(place.url) if place.url else place.folder
        if not names:
            raise UsageError(f"a study must be named, but {where} holds none; make one with harness sweep")
        means = f"matches {len(found)}: {', '.join(found)}" if found else nearest(prefix, names)
        raise UsageError(f"'{prefix}' must mean one study in {where}, but {means}")
    summary = _summary(found[0], place)
    if summary is None:
        raise StudyError(f"study '{found[0]}' was not made by harness sweep; name another")
    return summary


def place_of(where: str | Path) -> Place:
    """The place that a path or a URL names."""
    is_url = isinstance(where, str) and "://" in where
    return Place(folder=Path("."), url=str(where)) if is_url else Place(folder=Path(where))


def _summary(name: str, place: Place) -> StudySummary | None:
    with quiet(), one_line_storage(place.url or str(place.folder)):
        try:
            study = optuna.load_study(study_name=name, storage=place.open(name))
        except KeyError:  # a journal that was begun, but holds no study yet
            return None
        if SWEEP not in study.user_attrs:
            return None
        trials = tuple(study.get_trials())
    return StudySummary(name, sweep_of(study), int(study.user_attrs[TRIALS]), trials, study)


FRAME_HEAD = {"number": pl.Int64, "state": pl.String, "value": pl.Float64, "recall": pl.Float64}
FRAME_TAIL = {"epochs": pl.Int64, "seconds": pl.Float64, "peak_memory_mb": pl.Float64, "note": pl.String}


def trials_frame(study: StudySummary) -> pl.DataFrame:
    """One row per trial: number, state, value (validation NDCG@10), recall, the searched fields, cost, note.

    The value is null unless the trial is complete; a searched field has the type of its values, null where the trial
    ended before it was picked.
    """
    fields = {name: _column_type(field) for name, field in study.sweep.space.fields.items()}
    rows = [
        (
            trial.number,
            state_of(trial),
            trial.value if trial.state == TrialState.COMPLETE else None,
            trial.user_attrs.get(RECALL),
            *(trial.params.get(name) for name in fields),
            *cost_of(trial).values(),
            note_of(trial),
        )
        for trial in study.trials
    ]
    return pl.DataFrame(rows, schema={**FRAME_HEAD, **fields, **FRAME_TAIL}, orient="row", strict=False)


def _column_type(field: Any) -> type[pl.DataType]:
    kinds = {type(field.low)} if isinstance(field, Range) else {type(value) for value in field.values} - {type(None)}
    if kinds <= {bool}:
        return pl.Boolean
    if kinds <= {int}:
        return pl.Int64
    return pl.Float64 if kinds <= {int, float} else pl.String


def importances(study: StudySummary) -> dict[str, float]:
    """Each searched field's share of what decides the score, greatest first; empty where that cannot be told.

    By PED-ANOVA, which works from few trials; at least `MIN_FOR_IMPORTANCE` complete ones that differ are needed.
    """
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if len(complete) < MIN_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
        return {}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(
                study.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        except (ValueError, RuntimeError):  # all trials share the values of every field
            return {}
    return dict(found)


MIN_FOR_IMPORTANCE = 4
