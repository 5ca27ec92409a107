"""Files that a reader never sees half of: written under a temporary name, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The name to write to while the block lasts; the file takes its own when the block ends well."""
    temporary = path.with_name(path.name + ".tmp")
    yield temporary
    os.replace(temporary, path)


def write_whole(path: Path, text: str) -> None:
    """Writes the text as UTF-8."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
