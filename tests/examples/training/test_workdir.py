"""What a run leaves to serve is what it tested; what is to beat, it says once."""

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from data.dataset import Dataset
from training import checkpoints, flags, loop


class Net(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.logits = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.logits(self.norm(x))


def per_example(model, batch, rngs):
    return loop.classified(model(batch["x"]), batch["label"])


def test_what_is_served_is_what_was_tested(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (640, 4)).astype(np.float32)
    arrays = {"x": x, "label": x[:, :3].argmax(1).astype(np.int32)}
    few = {name: array[:100] for name, array in arrays.items()}
    data = Dataset("noise", arrays, few, few, {})
    config = flags.RunConfig(
        method="constant_averaged", epochs=2, workdir=str(tmp_path / "run")
    )
    tested = loop.fit(config, data, Net(nnx.Rngs(0)), per_example, "accuracy")
    # As examples/README.md has it.
    model, folder = Net(nnx.Rngs(1)), tmp_path / "run" / checkpoints.SERVED
    nnx.update(model, ocp.StandardCheckpointer().restore(folder, nnx.state(model)))
    model.eval()
    served = per_example(model, few, nnx.Rngs(0))["loss"].mean()
    assert served == pytest.approx(tested["loss"], rel=1e-5)
    read = checkpoints.read_params(config.workdir)
    np.testing.assert_array_equal(read["logits/kernel"], model.logits.kernel[...])
    # A run that is over leaves it again.
    loop.fit(config, data, Net(nnx.Rngs(0)), per_example, "accuracy")
    again = checkpoints.read_params(config.workdir)
    np.testing.assert_array_equal(again["logits/kernel"], read["logits/kernel"])


def test_what_is_to_beat_is_said_once(tmp_path, monkeypatch):
    config = flags.RunConfig(workdir=str(tmp_path))
    assert checkpoints.is_to_introduce(config)
    (tmp_path / checkpoints.METRICS).touch()
    assert not checkpoints.is_to_introduce(config)
    assert checkpoints.is_to_introduce(flags.RunConfig())
    anew = flags.RunConfig(workdir=str(tmp_path), overwrite=True)
    assert checkpoints.is_to_introduce(anew)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert not checkpoints.is_to_introduce(anew)
