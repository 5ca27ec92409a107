"""How a config and what it was run on are told in a row's label."""

from __future__ import annotations

import json
import re
from typing import Any

from results.store.schema import RunRecord


def told_conditions(record: RunRecord) -> str:
    """`, bf16, cuda`: what differs from full precision on a CPU."""
    conditions = (record.precision, "fp32"), (record.device, "cpu")
    return "".join(f", {value}" for value, usual in conditions if value not in (usual, ""))


def told_changes(changes: dict[str, Any]) -> str:
    """`epochs=15, softmax=sampled, codes=own.index.json`."""
    return ", ".join(f"{name}={_told_value(value)}" for name, value in changes.items())


def _told_value(value: Any) -> str:
    """The value; of a file that is named with its content, the name alone."""
    if isinstance(value, str):
        file = re.fullmatch(r"(?:file:)?(?:.*/)?([^/]+)@[0-9a-f]{12}", value)
        return file[1] if file else value
    return "none" if value is None else json.dumps(value)
