"""Where studies are stored: journal files in a folder, or a database that several machines reach."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from harness.errors import HarnessError

JOURNAL = ".journal"


class StudyError(HarnessError):
    """A study that cannot be reached, or that holds something else than was asked for."""


@dataclass(frozen=True)
class StudyStorage:
    """Journal files in a folder, or a database."""

    folder: Path
    url: str | None = None
    heartbeat_seconds: int = 60  # of database storages
    grace_seconds: int = 120  # without a heartbeat, after which a trial's coordinator is given up

    @classmethod
    def at(cls, where: str | Path) -> StudyStorage:
        """The storage that a path or a URL names."""
        is_url = isinstance(where, str) and "://" in where
        return cls(folder=Path("."), url=str(where)) if is_url else cls(folder=Path(where))

    def open(self, study_name: str) -> BaseStorage:
        """The storage that holds the study; `StudyError` when it cannot be reached."""
        return self.database() if self.url else journal(self.journal_path(study_name))

    def journal_path(self, study_name: str) -> Path:
        """The journal file of a study."""
        return self.folder / f"{study_name}{JOURNAL}"

    def database(self) -> RDBStorage:
        """The database, with heartbeats."""
        assert self.url is not None
        with self.reached():
            return RDBStorage(
                driver_url(self.url),
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=self.heartbeat_seconds,
                grace_period=self.grace_seconds,
            )

    @property
    def shown(self) -> str:
        """The folder, or the URL without its password."""
        return url_without_password(self.url) if self.url else str(self.folder)

    @contextmanager
    def reached(self) -> Iterator[None]:
        """While the block lasts, Optuna is quiet, and a database's failures become a `StudyError`."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with quiet():
                yield
        except ImportError as error:
            raise StudyError(f"{self.shown} needs a driver, but {_first_line(error)}; install it") from None
        except SQLAlchemyError as error:
            reason = _first_line(getattr(error, "orig", None) or error)
            raise StudyError(
                f"--storage must be a database that can be reached, but {self.shown} answers: {reason}; check the "
                "URL, and that the server runs"
            ) from None

    def names(self) -> list[str]:
        """The names of all studies here."""
        if self.url:
            with self.reached():
                return sorted(optuna.get_all_study_names(self.database()))
        return sorted(path.name.removesuffix(JOURNAL) for path in self.folder.glob(f"*{JOURNAL}"))


def journal(path: Path) -> JournalStorage:
    """The journal file's storage."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet():
        return JournalStorage(JournalFileBackend(str(path)))


def driver_url(url: str) -> str:
    """The URL with a driver that is installed: PostgreSQL's psycopg 3 where psycopg2 is absent."""
    from importlib.util import find_spec

    scheme, separator, rest = url.partition("://")
    if scheme in ("postgresql", "postgres") and find_spec("psycopg2") is None:
        if find_spec("psycopg") is None:
            raise StudyError(
                f"{url_without_password(url)} needs a PostgreSQL driver, but none is installed; "
                "pip install 'etegrec-harness[postgresql]'"
            )
        return f"postgresql+psycopg{separator}{rest}"
    return url


def url_without_password(url: str) -> str:
    """The URL as it may be printed."""
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{place}"


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings about what it calls experimental, and without its log."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
