"""The tests that every method must pass, for this project's methods and for a third party's (needs pytest).

from harness.testing import MethodConformance
class TestMine(MethodConformance):
    method = METHOD
"""

from harness.testing.conformance import MethodConformance

__all__ = ["MethodConformance"]
