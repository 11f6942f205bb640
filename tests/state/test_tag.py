"""A state of another rule, window or average is refused, not reinterpreted."""

import hashlib

import jax
import jax.numpy as jnp
import optax
import pytest

from optax_adaptive import (
    controllers,
    scale_by_controller,
    with_averaging,
)
from optax_adaptive.signals import window_statistics
from optax_adaptive.state import tag
from optax_adaptive.transforms import _rollback_memory

CONSTANT = controllers.constant()
ADAM = optax.adam(1e-3)


@pytest.mark.parametrize("read", [jax.jit, lambda function: function])
@pytest.mark.parametrize(
    ("kept", "asked", "names"),
    [
        (controllers.plateau(), controllers.trend(), ("plateau-32", "trend-32")),
        (controllers.greedy(), controllers.range_test(), ("greedy-32", "range_test-3")),
        (
            controllers.constant(),
            controllers.bold_driver(),
            ("constant-32", "bold_driver-32"),
        ),
        (
            controllers.clip(controllers.trend(), 2.0),
            controllers.trend(),
            ("clip-trend-32", "'trend-32"),
        ),
    ],
)
def test_the_state_of_another_rule(kept, asked, names, read):
    state = scale_by_controller(kept).init({})
    tx = scale_by_controller(asked)
    with pytest.raises(ValueError, match=rf"be '?{names[1]}.*is '?{names[0]}"):
        read(lambda state: tx.update({}, state, value=1.0))(state)


def test_the_name_tells_rules_apart_that_remember_as_many_words():
    one, other = (
        scale_by_controller(rule) for rule in (CONSTANT, CONSTANT._replace(name="mine"))
    )
    state = one.init({})
    sizes = [
        [leaf.size for leaf in jax.tree.leaves(tx.init({}))] for tx in (one, other)
    ]
    assert sizes[0] == sizes[1]
    with pytest.raises(ValueError, match="be 'mine-32-v.*is 'constant-32-v"):
        other.update({}, state, value=1.0)


def test_the_state_of_another_window():
    state = scale_by_controller(CONSTANT, window=8).init({})
    with pytest.raises(ValueError, match="be 'constant-32-v.*is 'constant-8-v"):
        scale_by_controller(CONSTANT).update({}, state, value=1.0)


@pytest.mark.parametrize("interpolation", [0.0, 0.7])
def test_the_state_of_another_interpolation(interpolation):
    params = jnp.zeros(2)
    state = with_averaging(ADAM, interpolation=interpolation).init(params)
    tx = with_averaging(ADAM, interpolation=0.7 - interpolation)
    with pytest.raises(ValueError, match="the kind of average .*'plain.*'") as raised:
        tx.update(params, state, params)
    assert "'interpolated-v" in str(raised.value)


def test_a_version_is_that_of_one_layout():
    """Another layout must have another version, or older states would be misread."""
    layouts = {
        "window statistics": window_statistics.LAYOUT,
        "with_rollback": _rollback_memory.LAYOUT,
    } | {
        name: jax.eval_shape(make().init) for name, make in controllers.REGISTRY.items()
    }
    text = "\n".join(
        f"{name}{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}"
        for name, layout in layouts.items()
        for path, leaf in jax.tree.leaves_with_path(layout)
    )
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert (tag.VERSION, digest) == (12, "8250f1f82da33b8f")
