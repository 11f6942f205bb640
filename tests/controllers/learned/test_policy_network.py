"""The network of learned, what was shipped, and weights that cannot be."""

import hashlib
import json
from importlib import resources
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optax_adaptive import (
    controllers,
)
from optax_adaptive.controllers.learned.policy_network import (
    PolicyWeights,
    act,
    shipped_weights,
)
from optax_adaptive.controllers.learned.state_features import NAMES, SIZE
from tests.helpers.policies import random_weights
from tests.references.learned_reference import act_reference

FILE = resources.files("optax_adaptive.controllers.learned") / "weights.json"


@given(seed=st.integers(0, 1000))
def test_the_network_by_numpy(seed):
    weights = shipped_weights()
    seen = np.random.default_rng(seed).normal(size=SIZE)
    action = act(PolicyWeights(*map(jnp.asarray, weights)), jnp.float32(seen))
    assert float(action) == pytest.approx(act_reference(weights, seen), abs=1e-5)


def test_what_is_shipped_says_what_made_it():
    text = FILE.read_text()
    assert len(text) <= 64 * 1024
    document = json.loads(text)
    assert tuple(document["features"]) == NAMES
    assert "train_policy.py" in document["made_by"]["command"]
    log = Path(__file__).parents[3] / "examples" / "policy" / "log.jsonl"
    assert hashlib.sha256(log.read_bytes()).hexdigest() == document["log_sha256"]


def test_bad_input():
    with pytest.raises(ValueError, match="total_steps"):
        controllers.learned(total_steps=0)
    weights = random_weights()._replace(linear=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"weights.linear must have the shape \(18,\)"):
        controllers.learned(weights=weights)
    weights = random_weights(hidden=5)._replace(hidden_bias=np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"weights.hidden_bias must have the shape"):
        controllers.learned(weights=weights)
    weights = random_weights()._replace(output_bias=np.float32(np.nan))
    with pytest.raises(ValueError, match="weights.output_bias must be finite"):
        controllers.learned(weights=weights)
