"""The study of other rates multiplies autotune's, and changes nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmark.studies.beyond_home import other_rates, run
from benchmark.studies.beyond_home.tasks import training


@pytest.mark.parametrize("kind", ["found", "later"])
def test_a_factor_multiplies_the_rate(toy, kind):
    subject = training.Training(toy._replace(steps=400), optax.adam, 1e-1)
    plain = jax.jit(run.make_run(subject, other_rates.METHOD))(1e-3, 0)

    def made(factor, steps, seed):
        return other_rates.build(subject, kind, factor, steps)

    multiplied = jax.jit(run.run_of(subject, made, autotunes=True))
    same, half = (multiplied(jnp.float32(factor), 0) for factor in (1.0, 0.5))
    np.testing.assert_allclose(same.validation, plain.validation, rtol=1e-3)
    # Later on, the rule corrects both as it likes.
    place = 2 if kind == "found" else 1
    ratio = half.learning_rate[place] / same.learning_rate[place]
    assert 0.45 < ratio < 0.55


def test_rows_are_not_made_again_and_the_table_compares_pairs(toy, monkeypatch):
    monkeypatch.setattr(other_rates, "FACTORS", (1.0, 2.0))
    monkeypatch.setattr(other_rates, "OTHERS", (2.0,))
    subject = training.Training(toy._replace(steps=400), optax.adam, 1e-1)
    done = {("toy", other_rates.METHOD, "kept", 1.0, 0)}
    (row,) = other_rates.runs(subject, "toy", "kept", [0], done)
    assert (row["task"], row["kind"], row["factor"], row["seed"]) == (
        *("toy", "kept"),
        *(2.0, 0),
    )

    def line(factor, seed, loss):
        names = {"task": "toy", "kind": "kept", "factor": factor, "seed": seed}
        return names | {"failed": None, "is_accuracy": False, "validation": [1.0, loss]}

    # Seed 2 has no pair.
    losses = (1.0, 0, 1.0), (2.0, 0, 1.1), (1.0, 1, 2.0), (2.0, 1, 2.6), (1.0, 2, 9.0)
    text = other_rates.table([line(*each) for each in losses]).splitlines()[-1]
    differences = 100 * np.log([1.1, 1.3])
    error = abs(differences[1] - differences[0]) / 2
    assert [cell.strip() for cell in text.strip("|").split("|")] == [
        *("toy", "kept", "2", f"{differences.mean():+.1f} ± {error:.1f}")
    ]
