"""A state packed into words comes back bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_adaptive.state.packing import check_size, overwrite, pack, switch, unpack


def tree():
    return {
        "scalar": jnp.array(-0.0, jnp.float32),
        "special": jnp.array([jnp.inf, -jnp.inf, jnp.nan, 1e-45], jnp.float32),
        "negative": jnp.array([[-1, 2], [3, -(2**31)]], jnp.int32),
        "key": jax.random.PRNGKey(7),
        "flags": jnp.array([True, False]),
        "flag": jnp.array(True),
        "empty": jnp.zeros((0,), jnp.float32),
        "nothing": (),
    }


def bits(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf).tobytes(), tree)


def test_unpack_inverts_pack_bit_for_bit():
    words = pack(tree())
    assert words.dtype == jnp.uint32
    assert not words.weak_type
    unpacked = unpack(jax.eval_shape(tree), words)
    assert bits(unpacked) == bits(tree())
    assert jax.tree.map(jnp.result_type, unpacked) == jax.tree.map(
        jnp.result_type, tree()
    )


def test_overwrite_changes_the_first_words_alone():
    words = jnp.arange(5, dtype=jnp.uint32)
    changed = overwrite(words, (jnp.array(9, jnp.int32), jnp.array([True, True])))
    np.testing.assert_array_equal(changed, [9, 1, 1, 3, 4])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_other_widths_are_refused(dtype):
    with pytest.raises(TypeError, match=dtype):
        pack(jnp.zeros(2, dtype))


def test_switch_is_that_of_lax_bit_for_bit():
    operands = (tree(), jnp.int32(3))
    branches = [
        lambda both: both[0],
        lambda both: both[0] | {"flag": ~both[0]["flag"], "scalar": jnp.float32(2.0)},
    ]
    chosen = jax.jit(lambda index: switch(index, branches, tree(), operands))
    for index, branch in enumerate(branches):
        assert bits(chosen(jnp.int32(index))) == bits(branch(operands))


def test_words_of_another_size_are_refused():
    layout = jax.eval_shape(tree)
    check_size(layout, pack(tree()), "a tree")
    size = pack(tree()).size
    with pytest.raises(ValueError, match=rf"has the shape \(3,\), .* \({size},\)"):
        check_size(layout, jnp.zeros((3,), jnp.uint32), "a tree")
