"""`harness table`, `ls` and `show`: what is stored, printed again without computing anything."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import options
from harness.cli.options import CacheDir, Json, RunsDir, print_json
from harness.errors import UsageError

if TYPE_CHECKING:
    from results.store.find import UnfinishedRun
    from results.store.runs import Run
    from results.store.selection import Filters
    from results.tables.content import Table

TABLE_EXAMPLES = (
    "Examples: [bold]harness table overall[/] · [bold]harness table ablation --dataset scientific --published[/] · "
    "[bold]harness table overall --format latex --out table3.tex[/] · "
    "[bold]harness table overall --slice item-popularity --ci[/]"
)
LS_EXAMPLES = "Examples: [bold]harness ls[/] · [bold]harness ls --dataset demo --method etegrec --seed 0[/]"
SHOW_EXAMPLES = "Examples: [bold]harness show etegrec/wo-sia[/] · [bold]harness show 3f2a91 --json[/]"

DatasetFilter = Annotated[
    str | None,
    typer.Option("--dataset", help="The data set's name; where several have it, as ls names them.", metavar="NAME"),
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


def filters_of(
    configs: list[str] | None, contract: str | None, preset: str | None, mask_history: bool = False
) -> Filters:
    """Which runs count; the configs are words with commas between, or given one by one."""
    from results.store.selection import Filters

    words = [word.strip() for text in configs or [] for word in text.split(",") if word.strip()]
    return Filters(tuple(words), contract, preset, mask_history)


def table(
    which: Annotated[
        Literal["overall", "ablation", "datasets"], typer.Argument(help="Table 3, Table 4 or Table 2 of the paper.")
    ],
    dataset: DatasetFilter = None,
    method: Annotated[str, typer.Option(help="Whose ablations.")] = "etegrec",
    format: Annotated[
        Literal["rich", "text", "md", "latex", "csv", "json", "html"], typer.Option(help="How to print.")
    ] = "rich",
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout.", metavar="FILE")] = None,
    published: Annotated[bool, typer.Option("--published", help="The paper's values, and ours minus those.")] = False,
    config: ConfigFilter = None,
    contract: ContractFilter = None,
    preset: PresetFilter = None,
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
    from results.tables.performance import View, ablation_table, overall_table
    from results.tables.slices import slicing_named

    if slice is not None and (published or which == "datasets"):
        other = "--published" if published else "the table of data sets"
        raise UsageError(f"--slice must not meet {other}, whose numbers are of all users; leave one of them out")
    filters = filters_of(config, contract, preset, mask_history)
    view = View(
        published=published,
        slicing=None if slice is None else slicing_named(slice),
        intervals=ci or json or format in ("csv", "json"),
    )
    if which == "datasets":
        made = datasets_table(_counts(cache_dir, dataset), published=published)
    elif which == "overall":
        made = overall_table(runs_dir, dataset or only_dataset(runs_dir), filters, view)
    else:
        made = ablation_table(runs_dir, dataset or only_dataset(runs_dir), method, filters, view)
    print_table(made, "json" if json else format, out)


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
    from rich.console import Console

    from results.store.find import RunFilter, find_runs, find_unfinished
    from results.terminal.listing import runs_table

    wanted = RunFilter(
        dataset=dataset, method=method, variant=variant, config=config, seed=seed, contract=contract, preset=preset
    )
    runs, unfinished = find_runs(runs_dir, wanted), find_unfinished(runs_dir, wanted)
    if json:
        print_json([_record(run) for run in runs] + [_unfinished(run) for run in unfinished])
    elif runs or unfinished:
        Console(highlight=False).print(runs_table(runs, unfinished))
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
    from rich.console import Console

    from results.store.runs import read_run
    from results.terminal.panels import run_panel

    found = read_run(_run_folder(run, runs_dir))
    if json:
        environment = {"environment": found.environment(), "config_toml": found.config_text()}
        print_json(_record(found) | environment)
    else:
        Console(highlight=False).print(run_panel(found))


def _counts(cache_dir: Path, dataset: str | None) -> dict[str, dict[str, Any]]:
    """Counts of all prepared data sets in the cache, or of the named one; the newest of each name."""
    from harness.data.open import prepared_folders
    from harness.data.prepare import describe

    counts = {found["name"]: found for found in map(describe, prepared_folders(cache_dir))}
    if dataset is not None and dataset not in counts:
        raise UsageError(
            f"data set '{dataset}' must have been prepared, but {cache_dir} holds: {', '.join(counts) or 'none'}; "
            f"give harness data describe {dataset}"
        )
    return {name: count for name, count in counts.items() if dataset in (None, name)}


def only_dataset(runs_dir: Path) -> str:
    """The data set that all finished runs are of; `ResultsError` when there are several, or none."""
    from results.store.find import only_dataset as found

    return found(runs_dir)


def print_table(made: Table, format: str, out: Path | None) -> None:
    """The table on stdout, or in a file; `format` as the command line names it."""
    from rich.console import Console

    from results.tables.render import render, to_rich

    if format == "rich" and out is None:
        Console().print(to_rich(made))
        return
    text = render(made, {"rich": "text", "md": "markdown"}.get(format, format))
    if out is None:
        typer.echo(text, nl=False)
        return
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, out)
    print(f"wrote {out}", file=sys.stderr)


def _run_folder(wanted: str, runs_dir: Path) -> Path:
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
