"""Options that several commands share: single ones, and groups that arrive as one value; where output goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from harness.cli import groups, values

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.data.open import Source
    from harness.experiment.plan import Settings
    from sweeps.storage import StudyStorage

SEARCH = "The search"
CONTRACT = "How all methods are judged"
MACHINE = "Machine and folders"
FILES = "Reading and filtering a path"
search_option, contract_option, machine_option, files_option = (
    partial(typer.Option, rich_help_panel=panel) for panel in (SEARCH, CONTRACT, MACHINE, FILES)
)

RUNS = Path("runs")
CACHE = Path("cache")
STUDIES = Path("studies")
METHOD = "etegrec"  # the method of commands that show or search one, unless another is named

Result = TypeVar("Result")

DatasetName = Annotated[
    str,
    typer.Option(
        "--dataset", help="A named data set (see harness data list), a file, or a folder.", metavar="NAME|PATH"
    ),
]
RunsDir = Annotated[
    Path, machine_option("--runs-dir", envvar="HARNESS_RUNS_DIR", metavar="DIR", help="Where results lie.")
]
CacheDir = Annotated[
    Path,
    machine_option(
        "--cache-dir", envvar="HARNESS_CACHE_DIR", metavar="DIR", help="Where prepared data and stages lie."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]


def takes_groups(command: Callable[..., Result]) -> Callable[..., Result]:
    """The command, with the options of each of its groups (`groups.takes_groups`)."""
    return groups.takes_groups((SEARCH, CONTRACT, MACHINE, FILES))(command)


@dataclass(frozen=True)
class Reading:
    """How a data set is read, filtered and split."""

    split: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="leave-one-out; temporal:POINT, a date or a share of all interactions (0.9), from which on the first "
            "one of each user is the test; temporal:0.8,0.9,every: validation and test, and all after them; given: as "
            "the files are split; unseen-users: nothing is learnt of the 5 % of users with the fewest interactions.",
        ),
    ] = "leave-one-out"
    format: Annotated[
        str | None,
        files_option(
            metavar="F",
            help="amazon2023, recbole, s3rec, etegrec-jsonl, letter, csv, parquet (default: told by the content).",
        ),
    ] = None
    metadata: Annotated[
        Path | None, files_option(metavar="FILE", help="The items' texts (default: found beside the file).")
    ] = None
    user_col: Annotated[
        str | None, files_option(metavar="C", help="Column of users in csv or parquet (default: by usual names).")
    ] = None
    item_col: Annotated[str | None, files_option(metavar="C", help="Column of items.")] = None
    time_col: Annotated[str | None, files_option(metavar="C", help="Column of times; none: row order is time.")] = None
    core: Annotated[int | None, files_option(min=0, help="k of the k-core filter (default 0: no filter).")] = None
    repeats: Annotated[
        Literal["keep", "drop"] | None,
        files_option(metavar="keep|drop", help="A user's repeats of an item (default keep)."),
    ] = None
    short_users: Annotated[
        Literal["error", "drop"] | None,
        files_option(metavar="error|drop", help="Users with fewer than 3 interactions (default error)."),
    ] = None

    def source(self, name: str) -> Source:
        """The data set of this name or path, read so."""
        from harness.data.formats.format import Columns
        from harness.data.open import Source

        changes = {"core": self.core, "repeats": self.repeats, "short_users": self.short_users}
        given = {field: value for field, value in changes.items() if value is not None}
        columns = Columns(self.user_col, self.item_col, self.time_col)
        return Source(name, self.format, self.metadata, columns, given, self.split)


Recipe = Annotated[
    Literal["default", "paper", "official", "original"],
    typer.Option(
        "--recipe",
        help="Where the paper and the released code differ: our choice, the paper's, the code's; original: SASRec "
        "as its first authors made it. Methods that have no such recipe keep the default.",
    ),
]


@dataclass(frozen=True)
class Judging:
    """Configs of the methods and the contract that judges them: what decides numbers, apart from the data set."""

    preset: Annotated[
        str | None,
        typer.Option(help="Sizes and schedules: lite or paper (default: paper for the paper's data sets, else lite)."),
    ] = None
    recipe: Recipe = "default"
    text: Annotated[
        str | None,
        typer.Option(
            help="Text encoder of all methods that read text: tfidf-svd, minilm, a model, file:PATH.",
            metavar="ENCODER",
        ),
    ] = None
    vectors: Annotated[
        str | None,
        typer.Option(
            help="Item vectors of all methods that read SASRec's: a file of your own (npy, safetensors, parquet).",
            metavar="FILE",
        ),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any field: etegrec.mu=3e-4, contract.num_beams=50. Repeatable.", metavar="M.F=V"),
    ] = None
    config: Annotated[
        Path | None, typer.Option(help="TOML file: a table per method, and one for the contract.", metavar="FILE")
    ] = None
    contract: Annotated[
        str | None,
        contract_option(
            help="Rules of others (docs/methods.md A.8): s3rec, letter, minionerec, hstu (default: ours).",
            metavar="NAME",
        ),
    ] = None
    decoding: Annotated[
        Literal["trie", "free", "released", "exact"] | None,
        contract_option(
            help="trie: beams over existing items (default); free: over all codes; released: as each authors' code; "
            "exact: the true best of all items.",
            metavar="HOW",
        ),
    ] = None
    beams: Annotated[int | None, contract_option(help="Beam width (default 20).")] = None
    top_k: Annotated[int | None, contract_option(help="Length of the ranked lists (default 10).")] = None
    precision: Annotated[Literal["fp32", "bf16"], machine_option(help="Of the forward passes.")] = "fp32"

    def settings(self, default_preset: str, device: str, processes: int = 1) -> Settings:
        """The settings of an experiment on a kind of device, whose models so many processes train together.

        The options' values lie over the file's, the assignments over both. `UsageError` for what breaks a rule.
        """
        from harness.experiment.settings import overlaid, settings_of

        with self.telling_lines():
            settings = settings_of(
                overlaid(values.config_file(self.config) if self.config else {}, self._given()),
                preset=self.preset or default_preset,
                recipe=self.recipe,
                precision=self.precision,
                text=self.text,
                vectors=self.vectors,
                processes=processes,
                rules=self.contract,
            )
        return replace(settings, device=device)

    def telling_lines(self) -> AbstractContextManager[None]:
        """Puts the config file's line before errors of its fields while the block lasts."""
        return values.telling_lines(self.config, self._given())

    def _given(self) -> dict[str, values.Table]:
        """The tables that options alone give."""
        from harness.experiment.settings import assignments_of, overlaid

        contract = {"decoding": self.decoding, "num_beams": self.beams, "top_k": self.top_k}
        given = {name: value for name, value in contract.items() if value is not None}
        return overlaid({"contract": given}, assignments_of(self.set_ or []))


@dataclass(frozen=True)
class Studies:
    """Where studies lie."""

    studies_dir: Annotated[
        Path,
        machine_option(envvar="HARNESS_STUDIES_DIR", metavar="DIR", help="Where studies lie, one journal file each."),
    ] = STUDIES
    storage: Annotated[
        str | None,
        machine_option(
            envvar="HARNESS_STORAGE",
            metavar="URL",
            help="A database instead, which several machines may share: postgresql://..., sqlite:///FILE.",
        ),
    ] = None

    def opened(self, heartbeat: int = 60) -> StudyStorage:
        """The storage, with so many seconds between signs of life in a database."""
        from sweeps.storage import StudyStorage

        return StudyStorage(self.studies_dir, self.storage, heartbeat, 2 * heartbeat)


def print_json(content: Any) -> None:
    """`content` as the only thing on stdout."""
    typer.echo(json.dumps(content, indent=1, default=str))


def print_view(view: RenderableType) -> None:
    """What rich shows, on stdout."""
    from rich.console import Console

    Console(highlight=False).print(view)
