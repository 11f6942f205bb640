"""Transfer tasks: that each is one, and what is said of them."""

import jax
import pytest

from benchmark.studies.transfer_tasks import run
from benchmark.studies.transfer_tasks.trainings import TRAININGS


@pytest.mark.parametrize("name", TRAININGS)
def test_each_has_a_loss_and_a_value_apart(name):
    def first(key):
        problem = TRAININGS[name].problem(key)
        params = problem.init(key)
        loss, grads = jax.value_and_grad(problem.loss)(params, key)
        return params, grads, loss, problem.evaluate(params)

    params, grads, *values = jax.eval_shape(first, jax.random.key(0))
    assert jax.tree.structure(params) == jax.tree.structure(grads)
    assert [value.shape for value in values] == [(), ()]


def test_the_table_says_how_many_times_the_cosines_loss():
    count = len(run.RATES)
    lines = [
        {"training": "a", "form": "cosine", "losses": [[4.0] * (count - 1) + [2.0]]},
        {"training": "b", "form": "cosine", "losses": [[1.0] + [1e-9] * (count - 1)]},
        {"training": "not run to the end", "form": "cosine", "losses": [[1.0] * count]},
    ]
    for form, factor in zip(run.FORMS, (1.0, 1.5, 0.5, 100.0), strict=True):
        lines.append({"training": "a", "form": form, "losses": [2.0 * factor]})
        lines.append({"training": "b", "form": form, "losses": [1e-8]})
    a, b, mean, _, worst = run.table(lines).splitlines()[2:]
    assert a == "| a | 2 (1e+01) | 1 | 1.5 | 0.5 | 100 |"
    assert b == "| b | 1e-07 (3e-04) | 1 | 1 | 1 | 1 |"  # none of less than 1e-7
    # Clipped at e times the cosine's, then the geometric mean with 1.
    assert mean == "| **mean** |  | 1 | 1.22 | 0.707 | 1.65 |"
    assert worst == "| **worst** |  | 1 | 1.5 | 1 | 2.72 |"
