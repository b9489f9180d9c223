"""The chart's tests use the Helm that `delivery` itself would take."""

from scripts.tests.conftest import program

__all__ = ["program"]  # fixture
