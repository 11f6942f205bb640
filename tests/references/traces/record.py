"""Records what the real libraries do to a learning rate, as small JSON files.

    python -m venv traces-env
    traces-env/bin/pip install optax==0.2.8 torch==2.13.0 transformers==5.23.0
    traces-env/bin/python tests/references/traces/record.py

None of the three is needed to run the tests. Each file holds named metric streams and
traces: settings, the stream, and the scale (the rate over the initial one) after each
step, as ``[scale, repeats]`` runs. Streams are multiples of 2^-8, which float32 and
float64 hold exactly, so that every library compares the same numbers.
"""

import json
import pathlib
from itertools import groupby, product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers
from transformers.optimization import GreedyLR

HERE = pathlib.Path(__file__).parent
STEPS = 120


def exact(values):
    return (np.round(np.asarray(values) * 256) / 256).tolist()


def streams():
    rng = np.random.default_rng(0)
    t = np.arange(STEPS)
    decay = 0.5 + 4 * np.exp(-t / 25)
    noisy = decay + rng.normal(0, 0.15, STEPS)
    spikes = decay + np.where(rng.random(STEPS) < 0.08, 20, 0)
    waves = 4 + 2 * np.sin(t / 9) - t / 80
    return {
        "noisy_decay": exact(np.abs(noisy)),
        "spikes": exact(spikes),
        "flat": exact(np.full(STEPS, 1.5)),
        "zeros": exact(np.zeros(STEPS)),
        "waves": exact(waves),
        "rising": exact(0.5 + t / 50 + rng.normal(0, 0.05, STEPS)),
        "negative_decay": exact(noisy - 5),
        "crossing_zero": exact(2 - t / 30 + rng.normal(0, 0.1, STEPS)),
        "accuracy": exact(0.9 - 0.8 * np.exp(-t / 30) + rng.normal(0, 0.02, STEPS)),
    }


def runs(scales):
    return [[scale, len(list(group))] for scale, group in groupby(scales)]


def write(library, version, traces):
    used = {name for name, _, _ in traces}
    lines = [
        json.dumps({"stream": stream, "settings": settings, "scales": runs(scales)})
        for stream, settings, scales in traces
    ]
    named = [
        f"{json.dumps(name)}: {json.dumps(values)}"
        for name, values in streams().items()
        if name in used
    ]
    text = (
        f'{{"library": "{library} {version}",\n"streams": {{\n'
        + ",\n".join(named)
        + '},\n"traces": [\n'
        + ",\n".join(lines)
        + "]}\n"
    )
    json.loads(text)
    (HERE / f"{library}.json").write_text(text)


def optax_traces():
    settings = [
        dict(factor=0.5, patience=5),
        dict(factor=0.1, patience=10),
        dict(factor=0.5, patience=1, rtol=1e-2, min_scale=0.03),
        dict(factor=0.7, patience=3, rtol=0.0, atol=0.05, cooldown=4),
        dict(factor=0.5, patience=2, rtol=0.02, atol=0.01, cooldown=1, min_scale=0.2),
        dict(factor=0.5, patience=2, accumulation_size=4),
        dict(factor=0.3, patience=1, accumulation_size=10, cooldown=2),
    ]
    names = ["noisy_decay", "spikes", "flat", "zeros", "waves", "rising"]
    for kwargs, name in product(settings, names):
        transform = optax.contrib.reduce_on_plateau(**kwargs)
        update = jax.jit(transform.update)
        state = transform.init(jnp.zeros((), jnp.float32))
        scales = []
        for value in np.float32(streams()[name]):
            _, state = update(np.float32(1), state, value=value)
            scales.append(float(state.scale))
        yield name, kwargs, scales


def rates(make, name):
    """Scales of a scheduler for PyTorch whose initial rate is 1."""
    optimizer = torch.optim.SGD([torch.zeros((), requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    scales = []
    for value in streams()[name]:
        scheduler.step(value)
        scales.append(optimizer.param_groups[0]["lr"])
    return scales


def torch_traces():
    relative = [
        dict(factor=0.1, patience=10),
        dict(factor=0.5, patience=2, cooldown=3),
        dict(factor=0.5, patience=0, threshold=0.02, min_lr=0.01),
    ]
    absolute = [
        dict(factor=0.5, patience=4, threshold=0.03, threshold_mode="abs"),
        dict(
            factor=0.6, patience=1, threshold=0.1, threshold_mode="abs",
            cooldown=2, min_lr=0.05,
        ),
    ]  # fmt: skip
    cases = [
        *product(relative, ["noisy_decay", "spikes", "flat", "waves"], ["min"]),
        *product(relative, ["accuracy", "waves"], ["max"]),
        *product(absolute, ["negative_decay", "crossing_zero"], ["min", "max"]),
        *product(absolute, ["flat", "accuracy"], ["max"]),
    ]
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    for kwargs, name, mode in cases:
        settings = dict(kwargs, mode=mode)
        yield name, settings, rates(lambda o, s=settings: plateau(o, **s), name)


def greedy_traces():
    wide = dict(min_lr=1e-6, max_lr=1e6)
    cases = [
        ("noisy_decay", dict()),
        ("noisy_decay", dict(wide, factor=0.8, patience=0)),
        ("noisy_decay", dict(wide, factor=0.9, patience=2, warmup=3, cooldown=2)),
        ("noisy_decay", dict(wide, factor=0.9, patience=1, smooth=True, window_size=8)),
        ("spikes", dict(wide, factor=0.7, patience=1, smooth=True, window_size=4)),
        ("spikes", dict(wide, factor=0.9, patience=3)),
        ("spikes", dict(wide, factor=0.5, patience=2, cooldown=5)),
        ("waves", dict(factor=0.5, patience=2, min_lr=0.1, max_lr=4.0)),
        ("waves", dict(wide, factor=0.9, patience=4, threshold=0.05, warmup=1)),
        ("waves", dict(wide, patience=1, threshold=0.02, threshold_mode="rel")),
        ("flat", dict(factor=0.5, patience=1, min_lr=0.2, reset_start=3)),
        ("flat", dict(factor=0.5, patience=1, min_lr=0.2, reset_start=3, cooldown=4)),
        ("flat", dict(factor=0.5, patience=0, min_lr=0.3, reset_start=0)),
        ("rising", dict(factor=0.6, patience=1, min_lr=0.1, reset_start=5)),
        ("waves", dict(factor=0.6, patience=1, min_lr=0.3, reset_start=2, warmup=2)),
        ("negative_decay", dict(wide, factor=0.9, patience=1)),
        ("crossing_zero", dict(wide, factor=0.9, patience=1, threshold=0.03)),
        ("accuracy", dict(wide, factor=0.9, patience=1, mode="max", warmup=1)),
        (
            "accuracy",
            dict(wide, mode="max", patience=1, threshold=0.02, threshold_mode="rel"),
        ),
    ]
    for name, settings in cases:
        yield name, settings, rates(lambda o, s=settings: GreedyLR(o, **s), name)


if __name__ == "__main__":
    write("optax", optax.__version__, list(optax_traces()))
    write("torch", torch.__version__.split("+")[0], list(torch_traces()))
    write("transformers", transformers.__version__, list(greedy_traces()))
