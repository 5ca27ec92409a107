"""`harness table`, `ls` and `show`: what is stored, printed again without computing anything."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import options
from harness.cli.options import CacheDir, Json, RunsDir, print_json, print_view, takes_groups
from harness.cli.values import names_in
from harness.errors import UsageError

if TYPE_CHECKING:
    from results.store.find import UnfinishedRun
    from results.store.runs import Run
    from results.store.selection import Filters
    from results.tables.content import Table
    from results.tables.performance import View

TABLE_EXAMPLES = (
    "Examples: [bold]harness table overall[/] · [bold]harness table ablation --dataset scientific --published[/] · "
    "[bold]harness table overall --format latex --out table3.tex[/] · "
    "[bold]harness table overall --slice item-popularity --ci[/] · "
    "[bold]harness table overall --dataset beauty,toys --k 5,20 --metrics hr,ndcg,coverage[/]"
)
LS_EXAMPLES = "Examples: [bold]harness ls[/] · [bold]harness ls --dataset demo --method etegrec --seed 0[/]"
SHOW_EXAMPLES = "Examples: [bold]harness show etegrec/wo-sia[/] · [bold]harness show 3f2a91 --json[/]"

DatasetFilter = Annotated[
    str | None,
    typer.Option("--dataset", help="The data set's name; where several have it, as ls names them.", metavar="NAME"),
]
DatasetsFilter = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Data sets, with commas between; several stand side by side. Named as ls names them.",
        metavar="LIST",
    ),
]
PublishedFile = Annotated[
    Path | None,
    typer.Option(
        "--published-file", help="Figures of one's own: a csv like results/published/elsewhere.csv.", metavar="FILE"
    ),
]
ContractFilter = Annotated[
    str | None,
    typer.Option("--contract", help="Beginning of a digest, or rules of others: s3rec, letter, minionerec, hstu."),
]
MaskHistory = Annotated[
    bool, typer.Option("--mask-history", help="The same runs as if items of the history took no ranks.")
]
SliceBy = Annotated[
    Literal["item-popularity", "user-length", "unseen-item", "collision", "new-user"] | None,
    typer.Option("--slice", help="Cut the users by what is known of their case, and show each slice on its own."),
]
PresetFilter = Annotated[str | None, typer.Option("--preset", help="lite or paper.")]
ConfigFilter = Annotated[
    list[str] | None,
    typer.Option(
        "--configs",
        "--config",
        help="Rows of a method run with several configs: default, all, best (on validation), beginnings of digests.",
        metavar="LIST",
    ),
]
FormatName = Literal["rich", "text", "md", "latex", "csv", "json", "html"]


@dataclass(frozen=True)
class Choice:
    """Which runs count; the configs are words with commas between, or given one by one."""

    configs: ConfigFilter = None
    contract: ContractFilter = None
    preset: PresetFilter = None

    def filters(self, mask_history: bool = False) -> Filters:
        """As the store takes them."""
        from results.store.selection import Filters

        words = [word.strip() for text in self.configs or [] for word in text.split(",") if word.strip()]
        return Filters(tuple(words), self.contract, self.preset, mask_history)


@takes_groups
def table(
    *,
    which: Annotated[
        Literal["overall", "ablation", "datasets"], typer.Argument(help="Table 3, Table 4 or Table 2 of the paper.")
    ],
    dataset: DatasetsFilter = None,
    method: Annotated[str, typer.Option(help="Whose ablations.")] = "etegrec",
    metrics: Annotated[
        str | None,
        typer.Option(help="recall (or hr), ndcg, mrr, coverage, novelty, a plug-in's, or all.", metavar="LIST"),
    ] = None,
    k: Annotated[str | None, typer.Option("--k", help="Lengths of the list (default 5,10).", metavar="LIST")] = None,
    format: Annotated[
        FormatName | None,
        typer.Option(help="How to print (default: as --out ends, else rich).", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .txt, .md, .tex, .csv, .json, .html.", metavar="FILE"),
    ] = None,
    published: Annotated[
        Literal["paper", "elsewhere", "all"] | None,
        typer.Option(
            "--published",
            help="The paper's values and ours minus those (paper, also without a word), what others report, or both.",
        ),
    ] = None,
    published_file: PublishedFile = None,
    choice: Choice,
    mask_history: MaskHistory = False,
    slice: SliceBy = None,
    ci: Annotated[
        bool, typer.Option("--ci", help="95 % bootstrap intervals over users and seeds; csv and json always have them.")
    ] = False,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Print a table of the paper, made from stored runs."""
    from results.tables.datasets import datasets_table
    from results.tables.joined import side_by_side
    from results.tables.performance import ablation_table, overall_table

    form = "json" if json else format_of(format, out)
    if slice is not None and (published is not None or which == "datasets"):
        other = "--published" if published is not None else "the table of data sets"
        raise UsageError(f"--slice must not meet {other}, whose numbers are of all users; leave one of them out")
    shown = _shown(published, published_file, slice)
    if which == "datasets":
        counts = _counts(cache_dir, dataset)
        made = datasets_table(counts, published=shown.published, elsewhere=shown.elsewhere)
        print_table(made, "json" if json else format, out)
        return
    columns, titles = _columns(metrics, k)
    view = replace(
        shown,
        columns=columns,
        titles=titles,
        intervals=ci or form in ("csv", "json"),
    )
    filters = choice.filters(mask_history)
    names = _datasets(runs_dir, dataset)
    if which == "overall":
        tables = [overall_table(runs_dir, name, filters, view) for name in names]
    else:
        tables = [ablation_table(runs_dir, name, method, filters, view) for name in names]
    print_table(side_by_side(tables), "json" if json else format, out)


def ls(
    dataset: DatasetFilter = None,
    method: Annotated[str | None, typer.Option(help="Name of the method.")] = None,
    variant: Annotated[str | None, typer.Option(help="full, wo-sia, ...")] = None,
    config: Annotated[str | None, typer.Option(help="Beginning of the config's digest.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed.")] = None,
    contract: ContractFilter = None,
    preset: PresetFilter = None,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
) -> None:
    """List runs, those that are unfinished last."""
    from results.store.find import RunFilter, find_runs, find_unfinished
    from results.terminal.listing import runs_table

    wanted = RunFilter(
        dataset=dataset, method=method, variant=variant, config=config, seed=seed, contract=contract, preset=preset
    )
    runs, unfinished = find_runs(runs_dir, wanted), find_unfinished(runs_dir, wanted)
    if json:
        print_json([_record(run) for run in runs] + [_unfinished(run) for run in unfinished])
    elif runs or unfinished:
        print_view(runs_table(runs, unfinished))
    else:
        print(f"no run in {runs_dir} matches; make one with: harness run", file=sys.stderr)


def show(
    run: Annotated[
        str, typer.Argument(help="A run's folder, or a part of its path that is unique: etegrec/wo-sia, a digest.")
    ],
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
) -> None:
    """Print one run: scores, curves, health of the codes, cost, config, environment."""
    from results.store.runs import read_run
    from results.terminal.panels import run_panel

    found = read_run(run_folder_named(run, runs_dir))
    if json:
        environment = {"environment": found.environment(), "config_toml": found.config_text()}
        print_json(_record(found) | environment)
    else:
        print_view(run_panel(found))


def _shown(published: str | None, published_file: Path | None, slice: str | None) -> View:
    """What a table shows beside its values, and by what it cuts the users."""
    from results.published.registry import registry
    from results.tables.performance import View
    from results.tables.slices import slicing_named

    if published_file is not None and published in (None, "paper"):
        raise UsageError("--published-file adds to what others report; add --published elsewhere, or all")
    return View(
        published=published in ("paper", "all"),
        elsewhere=registry(published_file) if published in ("elsewhere", "all") else None,
        slicing=None if slice is None else slicing_named(slice),
    )


def check_folder_of(out: Path) -> None:
    """`UsageError` for a file in a folder that is not there."""
    if not out.parent.is_dir():
        raise UsageError(f"--out must be in a folder that exists, but {out.parent} does not; make it, or name another")


def format_of(format: str | None, out: Path | None) -> str:
    """The name that `render` takes: of the format that is asked for, else as the file ends, else for a terminal.

    `UsageError` for a file of another ending, and for one in a folder that is not there.
    """
    from results.tables.render import ENDINGS

    if out is not None:
        check_folder_of(out)
    if format is None and out is not None:
        if out.suffix.lower() not in ENDINGS:
            raise UsageError(
                f"--out must end as its format does ({', '.join(ENDINGS)}), but got {out}; name another file"
            )
        return ENDINGS[out.suffix.lower()]
    return {"md": "markdown", None: "rich"}.get(format, format) or "rich"


def _columns(metrics: str | None, lengths: str | None) -> tuple[list[tuple[str, int]], dict[str, str]]:
    """The columns that are asked for, metric by metric, and what their headings call the metrics."""
    from results.statistics.metrics.registry import known_metrics, metric_named

    named = names_in(metrics or "recall,ndcg", "--metrics")
    found = dict(map(metric_named, known_metrics() if named == ["all"] else named))
    ks = names_in(lengths or "5,10", "--k")
    if wrong := [k for k in ks if not k.isdecimal() or int(k) < 1]:
        raise UsageError(f"--k must be lengths of the list with commas between, but got '{wrong[0]}'; write 5,20")
    columns = [(metric, int(k)) for metric in found for k in ks]
    return columns, {metric: title for metric, title in found.items() if metric != title}


def _datasets(runs_dir: Path, text: str | None) -> list[str]:
    """The data sets that are asked for; without a word, the only one that has runs."""
    from results.store.find import RunFilter, find_runs, only_dataset

    if text is None:
        return [only_dataset(runs_dir)]
    if "," not in text:
        return [text]
    return [text] if find_runs(runs_dir, RunFilter(dataset=text)) else names_in(text, "--dataset")


def _counts(cache_dir: Path, datasets: str | None) -> dict[str, dict[str, Any]]:
    """Counts of all prepared data sets in the cache, or of the named ones; the newest of each name."""
    from harness.data.open import prepared_folders
    from harness.data.prepare import describe

    counts = {found["name"]: found for found in map(describe, prepared_folders(cache_dir))}
    names = list(counts) if datasets is None else [datasets] if datasets in counts else names_in(datasets, "--dataset")
    for name in names:
        if name not in counts:
            raise UsageError(
                f"data set '{name}' must have been prepared, but {cache_dir} holds: {', '.join(counts) or 'none'}; "
                f"give harness data describe {name}"
            )
    return {name: counts[name] for name in names}


def print_table(made: Table, format: str | None, out: Path | None) -> None:
    """The table on stdout, or in a file; `format` as the command line names it, None: as the file ends."""
    from rich.console import Console

    from results.store.whole_files import write_whole
    from results.tables.console import RichTable
    from results.tables.render import render

    form = format_of(format, out)
    if form == "rich" and out is None:
        Console().print(RichTable(made))
        return
    text = render(made, "text" if form == "rich" else form)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_whole(out, text)
    print(f"wrote {out}", file=sys.stderr)


def run_folder_named(wanted: str, runs_dir: Path) -> Path:
    """The one run folder that is meant by a path or by a part of a path."""
    if Path(wanted).name.startswith("seed=") and Path(wanted).is_dir():
        return Path(wanted)
    from results.store.find import is_named

    folders = sorted(runs_dir.glob("*/*/*/*/seed=*"))
    parts = wanted.strip("/").split("/")
    found = [folder for folder in folders if is_named(folder, parts)]
    found = [folder for folder in found if is_named(folder, [*parts, ""])] or found
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"no run in {runs_dir} matches '{wanted}'; harness ls lists them")
    shown = ", ".join(str(folder.relative_to(runs_dir)) for folder in found[:4])
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    raise UsageError(f"'{wanted}' must mean one run, but matches {len(found)}: {shown}{more}; name more of the path")


def _record(run: Run) -> dict[str, Any]:
    metrics = {f"{row['metric']}@{row['k']}": row["value"] for row in run.metrics().iter_rows(named=True)}
    return {
        "folder": str(run.folder),
        "finished": True,
        "bytes": run.num_bytes,
        **asdict(run.record),
        "metrics": metrics,
    }


def _unfinished(run: UnfinishedRun) -> dict[str, Any]:
    return {**asdict(run), "folder": str(run.folder), "finished": False}
