"""`harness published` and `verify`: what others report, and whether our runs give it too."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import options
from harness.cli.options import CacheDir, Json, RunsDir, print_json, print_view
from harness.cli.tables import Choice, ConfigFilter, PresetFilter, PublishedFile
from harness.errors import UsageError

if TYPE_CHECKING:
    from results.published.registry import Registry

PUBLISHED_EXAMPLES = (
    "Examples: [bold]harness published beauty2014[/] · [bold]harness published scientific --kind reproduction[/] · "
    "[bold]harness published --published-file mine.csv --json[/]"
)
VERIFY_EXAMPLES = (
    "Examples: [bold]harness verify beauty2014[/] · [bold]harness verify beauty2014 --preset paper --json[/] · "
    "[bold]harness verify --install[/]"
)


def published(
    dataset: Annotated[
        str | None,
        typer.Argument(metavar="[DATASET]", help="A data set that others report on, or one of ours with its counts."),
    ] = None,
    kind: Annotated[
        Literal["paper", "repository", "reproduction", "transcription"] | None,
        typer.Option(help="Of the source."),
    ] = None,
    method: Annotated[str | None, typer.Option(help="As the sources call it.")] = None,
    published_file: PublishedFile = None,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """List published figures: source, kind, method, values, and the rules that they were made under."""
    from results.published.registry import registry
    from results.terminal.published import figures_view

    known = registry(published_file)
    name = None if dataset is None else _known_name(dataset, known, runs_dir, cache_dir)
    figures = [
        figure
        for figure in known.of(name)
        if kind in (None, figure.kind) and (method is None or figure.method.casefold() == method.casefold())
    ]
    if not figures:
        raise UsageError("no published figure matches; leave out --kind, --method, or the data set")
    if json:
        print_json([asdict(figure) for figure in figures])
    else:
        print_view(figures_view(figures, known.counts))


def verify(
    dataset: Annotated[
        str | None, typer.Argument(metavar="[DATASET]", help="The data set of our runs, as ls names it.")
    ] = None,
    install: Annotated[
        bool,
        typer.Option(
            "--install", help="Instead: train two small cells, and compare them with what our machine computed."
        ),
    ] = False,
    published_file: PublishedFile = None,
    configs: ConfigFilter = None,
    preset: PresetFilter = None,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
    cache_dir: CacheDir = options.CACHE,
) -> int:
    """Say of each published figure whether a run of ours is under the same rules, and how far apart they are."""
    if install == (dataset is not None):
        what = "not both" if install else "such as: harness verify beauty2014"
        raise UsageError(f"harness verify takes a data set or --install, {what}")
    if dataset is None:
        return _verify_installation(json)
    from results.published.registry import registry
    from results.published.verdicts import checks, rows_of
    from results.terminal.published import checks_view

    known = registry(published_file)
    rows = rows_of(runs_dir, dataset, Choice(configs).filters().configs, preset)
    if not rows:
        raise UsageError(
            f"harness verify needs finished runs of '{dataset}', but {runs_dir} has none; harness ls lists them"
        )
    meta = _prepared_meta(rows[0].record.dataset_fingerprint, cache_dir)
    items = rows[0].record.num_items
    if meta is None:  # under another split than leave-one-out those judged may be fewer, and nothing is recognised
        name, users = known.recognised(len(rows[0].runs[0].ranks(["user"])), items), rows[0].population
    else:
        counts = meta["counts"]
        name, users = known.recognised(counts["users"], items, counts["interactions"]), f"{counts['users']:,} users"
    if name is None:
        raise UsageError(
            f"'{dataset}' has {users} and {items:,} items, which are the counts of no data set with published figures "
            f"({', '.join(known.counts)}); add figures with --published-file"
        )
    found = checks(rows, known.of(name), None if meta is None else meta["config"]["max_history"])
    if json:
        print_json([asdict(check) for check in found])
    else:
        print_view(checks_view(found, dataset, name))
    return 0


def _verify_installation(as_json: bool) -> int:
    """Prints each quantity beside the shipped one; the exit code is 1 where one is off."""
    from harness.jobs.local import start_server

    start_server()
    import tempfile

    from harness.cli.progress import observed_results
    from harness.experiment.installation import compared, measured, shipped_values
    from results.terminal.installation import installation_view

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        found = compared(measured(Path(work), 1, observed_results), shipped_values())
    seconds = time.perf_counter() - started
    if as_json:
        told = [{**asdict(one), "agrees": one.agrees} for one in found]
        print_json({"agrees": all(one.agrees for one in found), "seconds": seconds, "quantities": told})
    else:
        lines = [(one.quantity, one.shipped, one.found, one.allowed, one.agrees) for one in found]
        print_view(installation_view(lines, seconds))
    return int(not all(one.agrees for one in found))


def _known_name(dataset: str, known: Registry, runs_dir: Path, cache_dir: Path) -> str:
    """The name under which figures are registered: the given one, or that of the counts of our data set."""
    if dataset in known.counts:
        return dataset
    from harness.data.open import prepared_folders
    from harness.data.prepare import describe

    for found in map(describe, prepared_folders(cache_dir)):
        if found["name"] == dataset:
            name = known.recognised(*(int(found[count]) for count in ("users", "items", "interactions")))
            if name is not None:
                return name
    raise UsageError(
        f"data set '{dataset}' must be one that others report on ({', '.join(known.counts)}), or be prepared and have "
        "the counts of one"
    )


def _prepared_meta(fingerprint: str, cache_dir: Path) -> dict[str, Any] | None:
    """What is known of the prepared data; None where they are no longer in the cache."""
    from harness.data.prepare import read_meta
    from harness.experiment.stored import prepared_folder

    folder = prepared_folder(fingerprint, cache_dir)
    return None if folder is None else read_meta(folder)
