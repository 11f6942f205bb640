"""bold_driver against a slow reference."""

import numpy as np
import pytest

from optax_adaptive import controllers, scale_by_controller
from tests.helpers.follow import follow
from tests.helpers.streams import STEPS
from tests.references.bold_driver_reference import bold_driver_reference
from tests.references.windows_reference import assert_follows


@pytest.mark.parametrize("accumulation_size", [1, 3])
def test_matches_the_reference(accumulation_size):
    settings = dict(growth=1.2, decay=0.6)
    tx = scale_by_controller(
        controllers.bold_driver(**settings),
        accumulation_size=accumulation_size,
        window=STEPS,  # a single value's error comes from all differences
    )
    assert_follows(tx, lambda: bold_driver_reference(**settings), accumulation_size)


def test_holds_within_the_noise():
    # Two windows, means 2.0 and 2.1, each of standard error 0.5.
    values = np.float32([1.5, 2.5, 1.6, 2.6])
    tx = scale_by_controller(controllers.bold_driver(), accumulation_size=2)
    np.testing.assert_array_equal(follow(tx)(values)[0], np.ones(4))
