"""A benchmark and ablation harness for ETEGRec and its baselines.

Notebooks use the names of `harness.api` from here: it is imported when the first of them is asked for, since the
packages that it needs take seconds.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["Contract", "Filters", "Settings", "Source", "View", "Workspace", "as_text", "configure", "list_methods"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    return getattr(import_module("harness.api"), name)
