"""The application: its commands, and how any failure becomes one line and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from harness import __version__
from harness.cli import (
    audit,
    bench,
    clean,
    codes,
    compare,
    data,
    doctor,
    figure,
    lists,
    methods,
    published,
    report,
    run,
    sweep,
    tables,
)
from harness.cli.values import completed
from harness.errors import DataError, HarnessError, UsageError
from results.errors import ResultsError

WRITABLE = "name one that you may write (--out, --runs-dir, --cache-dir, --studies-dir)"
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="harness",
    help="Trains generative and classical recommenders, ETEGRec and its ablations among them, under one evaluation, "
    "and prints the paper's tables from what is stored.",
    epilog="Example: harness run --ablation all",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: "split" if token == "protocol" else token,  # as --split was called before
    },
)
app.command("run", epilog=run.EXAMPLES)(run.run)
app.add_typer(sweep.app, name="sweep", help=sweep.sweep.__doc__, epilog=sweep.EXAMPLES)
app.command("table", epilog=tables.TABLE_EXAMPLES)(tables.table)
app.command("report", epilog=report.EXAMPLES)(report.report)
app.command("figure", epilog=figure.EXAMPLES)(figure.figure)
app.command("ls", epilog=tables.LS_EXAMPLES)(tables.ls)
app.command("show", epilog=tables.SHOW_EXAMPLES)(tables.show)
app.command("published", epilog=published.PUBLISHED_EXAMPLES)(published.published)
app.command("verify", epilog=published.VERIFY_EXAMPLES)(published.verify)
app.command("score", epilog=lists.SCORE_EXAMPLES)(lists.score)
app.command("export", epilog=lists.EXPORT_EXAMPLES)(lists.export)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("audit", epilog=audit.EXAMPLES)(audit.audit)
app.add_typer(data.app, name="data")
app.add_typer(codes.app, name="codes")
app.command("methods", epilog=methods.EXAMPLES)(methods.methods)
app.add_typer(bench.app, name="bench", help=bench.bench.__doc__, epilog=bench.EXAMPLES)
app.command("clean", epilog=clean.EXAMPLES)(clean.clean)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from harness.provenance import ROOT, commit

        found = commit(ROOT)
        typer.echo(f"etegrec-harness {__version__}" + ("" if found == "none" else f" (commit {found})"))
        raise typer.Exit()


@app.callback()
def _global_options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version, and in a checkout the commit."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks; taken in any place of a command.")] = False,
) -> None:
    """Options that stand before a command."""
    if _is_launched() and context.invoked_subcommand != "run":
        raise UsageError(
            f"torchrun must start 'harness run', but started 'harness {context.invoked_subcommand}', which works in "
            "one process; give the command without torchrun"
        )


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and exits: 0 done, 1 something failed, 2 wrong usage or bad input, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    sys.stdout = sys.stdout or io.StringIO()  # None where the caller closed it
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the terminal's encoding cannot write
    arguments = completed([argument for argument in arguments if argument != "--debug"])
    try:
        code = app(arguments, prog_name="harness", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        elif _is_teller():
            print(f"error: {told(error)}", file=sys.stderr)
        sys.exit(exit_code(error))
    if code == INTERRUPTED and _is_teller():
        print("interrupted; everything computed stays, give the same command again to go on", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else OK)


def _is_launched() -> bool:
    """Whether torchrun started this process, with others (`harness.jobs.torchrun.World`, whose import takes long)."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def _is_teller() -> bool:
    """Whether this process tells of a failure: of several that torchrun started, the first one that failed."""
    if not _is_launched():
        return True
    from harness.jobs.torchrun import World

    return World.of_environment().is_first_to_fail()


def exit_code(error: Exception) -> int:
    """2 for what the user asked wrongly or gave in bad shape, 1 for everything else."""
    is_input = isinstance(error, UsageError | DataError | ResultsError | FileNotFoundError | NotADirectoryError)
    is_input |= isinstance(error, IsADirectoryError)
    is_input |= isinstance(error, PermissionError) and is_unreadable(error)
    return USAGE if is_input else getattr(error, "exit_code", FAILED)


def told(error: Exception) -> str:
    """The failure in one line; a fault of ours leaves its traceback in a file that the line names."""
    if isinstance(error, HarnessError | ResultsError):
        return _one_line(str(error))
    if isinstance(error, typer.TyperException):
        return (
            _one_line(error.format_message()).replace(" Value error,", "") or "a command is missing; see harness --help"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _told_by_system(error)
    handle, path = tempfile.mkstemp(prefix="harness-", suffix=".traceback.txt")
    with os.fdopen(handle, "w") as file:
        traceback.print_exception(error, file=file)
    summary = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {summary} (an error of the harness; its traceback is in {path})"


def _told_by_system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    remedies = {
        errno.ENOSPC: "free some space and give the same command again; everything computed stays",
        errno.EDQUOT: "free some of your quota and give the same command again; everything computed stays",
        errno.EACCES: WRITABLE,
        errno.EROFS: WRITABLE,
        errno.EPERM: WRITABLE,
        errno.ENOTDIR: "choose another folder",
        errno.ENOENT: "check the path",
        errno.EISDIR: "name a file",
    }
    remedy = remedies.get(error.errno or 0)
    if is_unreadable(error):
        return f"{where}must be readable, but you may not read it; change its permissions, or name another"
    if remedy == WRITABLE:
        return f"{where}cannot be written ({error.strerror}); {remedy}"
    return f"{where}{error.strerror}" + (f"; {remedy}" if remedy else "")


def is_unreadable(error: OSError) -> bool:
    """Whether the error is of a file or folder that is there, or in one, that this user may not read."""
    if error.errno not in (errno.EACCES, errno.EPERM) or not isinstance(error.filename, str | os.PathLike):
        return False
    if os.path.exists(error.filename):
        return not os.access(error.filename, os.R_OK)
    # A file in a folder that may not be entered does not seem to exist; one that could not be made does not exist.
    above = next(folder for folder in Path(error.filename).absolute().parents if os.path.exists(folder))
    return not os.access(above, os.X_OK)


def _one_line(text: str) -> str:
    return " ".join(text.split())
