"""Cases of a parametrized test that `make test` leaves to .ci/run."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(fast: Collection[str], cases: Iterable[str]) -> list[Any]:
    """All cases, of which those that are not among ``fast`` are marked slow."""
    return [
        case if case in fast else pytest.param(case, marks=pytest.mark.slow)
        for case in cases
    ]
