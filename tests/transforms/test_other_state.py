"""The state of another optimizer, of other params or of a checkpoint without types."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax.core import FrozenDict
from flax.serialization import msgpack_restore, to_bytes

import optax_adaptive
from optax_adaptive import autotune, controllers, integrations
from optax_adaptive.state import tag

pytestmark = pytest.mark.usefixtures("standard_promotion")

PARAMS = {"w": jnp.ones((3, 4)), "b": jnp.ones(4)}
WIDER = {"w": jnp.ones((3, 5)), "b": jnp.ones(5)}
TUNED = autotune(optax.adam(0.1))
AVERAGED = optax_adaptive.with_averaging(optax.adam(0.1))
ROLLED = optax_adaptive.with_rollback(optax.adam(0.1))
SCALED = optax_adaptive.scale_by_controller(controllers.trend())
UNTYPED = msgpack_restore(to_bytes(TUNED.init(PARAMS)))


def refusal(tx, state):
    with pytest.raises(ValueError) as raised:
        jax.eval_shape(lambda: tx.update(PARAMS, state, PARAMS, value=1.0))
    return str(raised.value)


@pytest.mark.parametrize(
    ("other", "has"),
    [
        (optax.sgd(0.1), "EmptyState, EmptyState"),
        (optax.sgd(0.1, momentum=0.9), "0/0/trace/b of shape (4,)"),
        (optax.adabelief(0.1), "ScaleByBeliefState, EmptyState"),
        (optax.adamw(0.1), "ScaleByAdamState, EmptyState, EmptyState"),
    ],
)
def test_of_another_optimizer_inside(other, has):
    message = refusal(TUNED, autotune(other).init(PARAMS))
    assert message.startswith("the state of the optimizer inside is of another run")
    assert f"it has {has}" in message and "begin anew with init" in message


def test_of_other_params():
    message = refusal(TUNED, TUNED.init(WIDER))
    assert "the average is of another run: it has b of shape (5,)" in message
    assert "this one has b of shape (4,)" in message


def test_of_the_same_params_in_another_container():
    message = refusal(TUNED, TUNED.init(FrozenDict(PARAMS)))
    assert "it has PyTreeDef(CustomNode(FrozenDict" in message
    assert "this one has PyTreeDef({'b': *, 'w': *})" in message


def test_updates_in_another_container_than_params():
    tx, params = TUNED, [jnp.ones(2), jnp.ones(3)]
    with pytest.raises(ValueError, match=r"same structure.*\(\*, \*\).*\[\*, \*\]"):
        tx.update(tuple(params), tx.init(params), params, value=1.0)


@pytest.mark.parametrize(
    ("tx", "name"),
    [
        (TUNED, "with_averaging or autotune"),
        (AVERAGED, "with_averaging or autotune"),
        (ROLLED, "with_rollback"),
        (SCALED, "scale_by_controller"),
    ],
)
@pytest.mark.parametrize(
    ("state", "is_a"),
    [
        (optax.adam(0.1).init(PARAMS), "ScaleByAdamState, EmptyState"),
        (UNTYPED, "a dict"),
    ],
)
def test_of_a_run_without_it_or_a_checkpoint_without_types(tx, name, state, is_a):
    message = refusal(tx, state)
    assert f"must be that of {name}," in message and f"it is {is_a}. " in message
    assert "integrations.graft(tx.init(params), restored)" in message


@pytest.mark.parametrize(
    "read",
    [
        lambda state: optax_adaptive.eval_params(state, PARAMS),
        optax_adaptive.lr_scale,
        optax_adaptive.summary,
        lambda state: optax_adaptive.select_on_rollback(state, PARAMS, PARAMS),
    ],
)
def test_what_reads_a_state_says_how_to_convert_it(read):
    with pytest.raises(ValueError, match=r"integrations.graft\(tx.init\(params\), res"):
        read(UNTYPED)
    read(integrations.graft(TUNED.init(PARAMS), UNTYPED).tree)


@pytest.mark.parametrize("tx", [TUNED, ROLLED])
def test_of_another_version(tx, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tag, "VERSION", 1)
        state = tx.init(PARAMS)
    assert f"-v{tag.VERSION}', but it is" in refusal(tx, state)
    assert "-v1'" in refusal(tx, state)
