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
    caption, _, _, _, a, b, mean, clipped, _, worst = run.table(lines).splitlines()
    assert caption.startswith("Transfer tasks: all were drawn up before any was run.")
    assert a == "| a | 2 (1e+01) | 1 | 1.5 | 0.5 | 100 |"
    # None is of less than 1e-7; without that bound 1e-8 is ten times 1e-9.
    tens = " | ".join(["1 [10]"] * 4)
    assert b == f"| b | 1e-07 (3e-04) [1e-09 (3e-04)] | {tens} |"
    # Geometric, with 1 (with 10); clipped at e times the cosine's.
    cells = "1 [3.16] | 1.22 [3.87] | 0.707 [2.24] | 10 [31.6]"
    assert mean == f"| **mean** |  | {cells} |"
    assert clipped == "| **mean, clipped** |  | 1 | 1.22 | 0.707 | 1.65 |"
    assert worst == "| **worst** |  | 1 [10] | 1.5 [10] | 1 [10] | 100 |"
