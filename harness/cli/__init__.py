"""The command line: `harness run`, `table`, `ls`, `show`, `data`, `methods`, `doctor`.

Modules that hold commands import torch and polars only inside them, so that `harness --help` answers at once.
"""

from harness.cli.app import main

__all__ = ["main"]
