"""What a user can mend about stored results, told in one line: the rule, the value, the remedy."""


class ResultsError(ValueError):
    """A missing, damaged or incompatible result; the message is one line."""
