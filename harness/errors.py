"""Mistakes that a user can mend, each told in one line: the rule, the value, the remedy."""

import difflib
from collections.abc import Iterable


class HarnessError(ValueError):
    """A user's mistake or an outer circumstance; the command line prints it as one line, without a traceback."""


class UsageError(HarnessError):
    """A wrong name, option or field: the command line exits with 2."""


class FieldError(UsageError):
    """A field of a config, or a table of them, that is unknown or breaks a rule: `field` is its dotted name."""

    def __init__(self, message: str, field: str = ""):
        super().__init__(message)
        self.field = field


class DataError(HarnessError):
    """Input data that breaks a rule; the message carries the file, and the line where there is one."""


class StageError(HarnessError):
    """A stage that could not be computed: a loss that is not finite, a checkpoint cut short, a full disk."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: `did you mean 'x'?`, and all that are known."""
    known = sorted(known)
    spelled = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.5)
    return (f"did you mean '{spelled[close[0]]}'? " if close else "") + f"known: {', '.join(known)}"
