"""A run of autotune that is saved by each library goes on bitwise; damage is found."""

import functools
import io
import zipfile

import equinox
import flax.serialization
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import optax_adaptive
from optax_adaptive.integrations import graft
from tests.helpers.regression import make_step, squared_error, student, teacher

pytestmark = pytest.mark.usefixtures("standard_promotion")

TX = optax_adaptive.autotune(optax.adam(0.1), total_steps=200)


@functools.cache
def chunk():
    def run(carry, key):
        def step(carry, key):
            return make_step(TX, squared_error)(*carry, teacher(key)), None

        return jax.lax.scan(step, carry, jax.random.split(key, 50))[0]

    return jax.jit(run)


def first():
    params = student(jax.random.key(0))
    return params, TX.init(params)


@functools.cache
def carries():
    """What there is to save, in the midst of the search, and what comes of it."""
    stopped = chunk()(first(), jax.random.key(1))
    assert optax_adaptive.summary(stopped[1])["phase"] < 3
    return stopped, chunk()(stopped, jax.random.key(2))


def check_that_it_goes_on(restored):
    stopped, expected = carries()
    jax.tree.map(np.testing.assert_array_equal, restored, stopped)
    went_on = chunk()(restored, jax.random.key(2))
    jax.tree.map(np.testing.assert_array_equal, went_on, expected)


def save(path, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)


def restore(path, *target):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, *target)


def as_npz(tree):
    buffer = io.BytesIO()
    np.savez(buffer, *map(np.asarray, jax.tree.leaves(tree)))
    return buffer.getvalue()


def of_npz(blob):
    with np.load(io.BytesIO(blob)) as arrays:
        leaves = [arrays[name] for name in arrays.files]
    return jax.tree.unflatten(jax.tree.structure(first()), leaves)


def as_leaves(tree):
    buffer = io.BytesIO()
    equinox.tree_serialise_leaves(buffer, tree)
    return buffer.getvalue()


def of_leaves(blob):
    return equinox.tree_deserialise_leaves(io.BytesIO(blob), first())


WAYS = {
    "numpy": (as_npz, of_npz),
    "flax": (
        flax.serialization.to_bytes,
        lambda blob: flax.serialization.from_bytes(first(), blob),
    ),
    "equinox": (as_leaves, of_leaves),
}


ERRORS = {
    "numpy": (zipfile.BadZipFile, EOFError),
    "flax": ValueError,
    "equinox": (RuntimeError, EOFError),
}


@pytest.mark.parametrize("way", WAYS)
def test_as_bytes(way):
    write, read = WAYS[way]
    check_that_it_goes_on(read(write(carries()[0])))


def test_by_flax_as_nested_dicts():
    nested = flax.serialization.to_state_dict(carries()[0])
    check_that_it_goes_on(flax.serialization.from_state_dict(first(), nested))


def test_by_orbax_with_a_target(tmp_path):
    save(tmp_path / "saved", carries()[0])
    check_that_it_goes_on(restore(tmp_path / "saved", first()))


@pytest.mark.filterwarnings("ignore:.*[Ss]harding")
def test_by_orbax_without_a_target(tmp_path):
    save(tmp_path / "saved", carries()[0])
    params, nested = restore(tmp_path / "saved")
    with pytest.raises(ValueError, match="graft"):
        optax_adaptive.eval_params(nested, params)
    result = graft(TX.init(params), nested)
    assert result.fresh == result.unused == ()
    evaluated = optax_adaptive.eval_params(result.tree, params)
    expected = optax_adaptive.eval_params(carries()[0][1], params)
    jax.tree.map(np.testing.assert_array_equal, evaluated, expected)
    check_that_it_goes_on((params, result.tree))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_what_is_truncated_is_an_error(way, share):
    write, read = WAYS[way]
    blob = write(carries()[0])
    with pytest.raises(ERRORS[way]):
        read(blob[: int(share * len(blob))])


def flipped(blob, place):
    return blob[:place] + bytes([blob[place] ^ 4]) + blob[place + 1 :]


def test_numpy_finds_a_flipped_bit():
    blob = as_npz(carries()[0])
    words = np.asarray(memory(carries()[0][1])).tobytes()
    with pytest.raises(zipfile.BadZipFile, match="Bad CRC-32"):
        of_npz(flipped(blob, blob.index(words) + 8))


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_orbax_finds_damage_of_any_file_of_data(damage, tmp_path):
    # One array alone: what reads others complains after the first error.
    words = {"words": memory(carries()[0][1])}
    save(tmp_path / "saved", words)
    files = [*(tmp_path / "saved" / "d").iterdir(), tmp_path / "saved/manifest.ocdbt"]
    assert len(files) >= 2
    for file in files:
        blob = file.read_bytes()
        middle = len(blob) // 2
        bad = blob[:middle] if damage == "truncated" else flipped(blob, middle)
        file.write_bytes(bad)
        with pytest.raises(ValueError):
            restore(tmp_path / "saved", words)
        file.write_bytes(blob)
    jax.tree.map(
        np.testing.assert_array_equal, restore(tmp_path / "saved", words), words
    )


def memory(state):
    return jax.tree.leaves(state.inner_state.inner_state[1].controller_memory)[0]


@pytest.mark.parametrize("way", ["flax", "equinox"])
def test_these_do_not_find_a_flipped_bit(way):
    """As docs/reliability.md says: a checksum belongs beside what they write."""
    write, read = WAYS[way]
    stopped, _ = carries()
    blob = write(stopped)
    words = np.asarray(memory(stopped[1])).tobytes()
    _, state = read(flipped(blob, blob.index(words) + 8))
    assert np.sum(np.asarray(memory(state)) != memory(stopped[1])) == 1
