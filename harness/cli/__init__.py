"""The command line: `harness run`, `table`, `ls`, `show`, `data`, `methods`, `doctor`.

Modules that hold commands import torch and polars only inside them, so that `harness --help` answers at once.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and exits, as `harness.cli.app.main` says; without `arguments`, those of this process.

    An interrupted process ends at once: to take torch and the server of jobs down in order would take seconds.
    """
    if arguments is None and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's end of time is an interruption
    try:
        from harness.cli.app import main

        main(arguments)
    except KeyboardInterrupt:  # while the application was imported
        code: object = INTERRUPTED
    except SystemExit as ended:
        code = ended.code
    if code == INTERRUPTED and arguments is None:
        _end_at_once()
    sys.exit(code)  # type: ignore[arg-type]


def _end_at_once() -> None:
    """Ends this process and the server of its jobs; whatever is written is written already."""
    local = sys.modules.get("harness.jobs.local")
    if local is not None:
        local.kill_server()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(INTERRUPTED)
