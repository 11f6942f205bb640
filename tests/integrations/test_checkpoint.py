"""graft takes over what fits of another optimizer's checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.serialization import msgpack_restore, to_bytes

from optax_adaptive import controllers, lr_scale, scale_by_controller
from optax_adaptive.integrations import graft
from optax_adaptive.state.tag import VERSION

PARAMS = {"w": jnp.ones(3)}


def with_controller(rule, window=8):
    return optax.chain(
        optax.trace(0.9), scale_by_controller(rule, accumulation_size=1, window=window)
    )


def trained(tx):
    state = tx.init(PARAMS)
    for _ in range(3):
        _, state = tx.update(PARAMS, state, PARAMS, value=1.0)
    return state


def restored(state):
    """The state as a checkpoint read without a target gives it: nested dicts."""
    return msgpack_restore(to_bytes(state))


def test_what_is_no_array_stays_as_it_is():
    target = {"name": "target", "w": jnp.zeros(3)}
    result = graft(target, {"name": "restored", "w": jnp.ones(3)})
    assert result.tree["name"] == "target" and result.fresh == ("name",)
    np.testing.assert_array_equal(result.tree["w"], jnp.ones(3))


def test_a_controller_is_added_to_a_run_without_one():
    bare = optax.with_extra_args_support(optax.chain(optax.trace(0.9)))
    old, target = trained(bare), with_controller(controllers.constant()).init(PARAMS)
    result = graft(target, restored(old))
    np.testing.assert_array_equal(result.tree[0].trace["w"], old[0].trace["w"])
    memory = f"1/controller_memory/constant-8-v{VERSION}"
    assert set(result.fresh) == {"1/lr_scale", memory}
    assert result.unused == ()


def test_the_same_optimizer_is_restored_in_full():
    tx = with_controller(controllers.plateau(0.5, 1))
    state = trained(tx)
    result = graft(tx.init(PARAMS), restored(state))
    jax.tree.map(np.testing.assert_array_equal, result.tree, state)
    assert result.fresh == result.unused == ()
    tx.update(PARAMS, result.tree, PARAMS, value=1.0)


def test_another_rule_keeps_the_factor_and_forgets_the_rest():
    state = trained(with_controller(controllers.plateau(0.5, 1)))
    target = with_controller(controllers.constant(), window=5).init(PARAMS)
    result = graft(target, restored(state))
    assert lr_scale(result.tree) == lr_scale(state) == 0.25
    assert result.fresh == (f"1/controller_memory/constant-5-v{VERSION}",)
    assert result.unused == (f"1/controller_memory/plateau-8-v{VERSION}",)


def test_a_key_with_a_slash_is_no_path():
    target = {"a": {"b": jnp.zeros(())}, "a/b": jnp.zeros(())}
    result = graft(target, {"a": {"b": 1.0}, "a/b": jnp.float32(2.0)})
    assert result.tree["a/b"] == 2.0 and result.fresh == result.unused == ()
    assert result.tree["a"]["b"] == 1.0


def test_what_is_no_array_is_left_behind():
    result = graft({"name": jnp.zeros(2)}, {"name": "resnet"})
    assert result.fresh == result.unused == ("name",)


def test_it_lies_where_the_target_does():
    device = jax.devices()[-1]
    target = jax.device_put(jnp.zeros(4), device)
    assert graft(target, np.ones(4, np.float32)).tree.sharding == target.sharding


def test_numbers_of_no_dtype_take_that_of_the_target():
    target = {"count": jnp.zeros((), jnp.int32), "rate": jnp.zeros(())}
    tree = graft(target, {"count": 3, "rate": 2.0}).tree
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(tree))


def test_what_lies_on_no_device_by_choice_stays_free():
    target = with_controller(controllers.constant()).init(PARAMS)
    tree = graft(target, restored(target)).tree
    assert not any(leaf.committed for leaf in jax.tree.leaves(tree))
    device = jax.devices()[0]
    tree = graft(jax.device_put(target, device), restored(target)).tree
    assert all(leaf.committed for leaf in jax.tree.leaves(tree))
