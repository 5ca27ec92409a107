"""What the tests of searches share: one prepared data set, and a folder for each search."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_sweep import Tiny, prepared


@pytest.fixture(scope="session")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared data set."""
    return prepared(tmp_path_factory.mktemp("ring"))


@pytest.fixture
def tiny(ring: Path, tmp_path: Path) -> Tiny:
    """A folder for a search."""
    return Tiny(tmp_path, ring)


@pytest.fixture
def elsewhere(ring: Path, tmp_path: Path) -> Callable[[str], Tiny]:
    """Another folder, by name."""
    return lambda name: Tiny(tmp_path / name, ring)
