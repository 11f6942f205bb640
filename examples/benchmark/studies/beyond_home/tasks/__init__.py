"""Trainings beyond the comparison's own, by name; a file a family."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmark.studies.beyond_home.tasks import (
    deep_convolution,
    deep_residual,
    diffusion,
    finetuning,
    forms,
    gpt,
    physics,
    vision,
)
from benchmark.studies.beyond_home.tasks.long import LONG
from benchmark.studies.beyond_home.tasks.training import Training

Make = Callable[[Path], Training]  # from the folder of prepared data

LANGUAGE: dict[str, Make] = {
    "gpt_0.1M": lambda data_dir: gpt.gpt("sklearn", gpt.Size(64, 2, 128, 8), 10_000),
    "gpt_0.4M": lambda data_dir: gpt.gpt("scipy", gpt.Size(128, 2, 96, 8), 4000),
    "gpt_0.8M": lambda data_dir: gpt.gpt("jax", gpt.Size(128, 4, 64, 12), 2000),
}
PRETRAINED: dict[str, Callable[[Path], finetuning.Pretrained]] = {
    "perceptron": lambda data_dir: finetuning.pretrained_perceptron(),
    "convolution": finetuning.pretrained_convolution,
    "gpt": lambda data_dir: finetuning.pretrained_gpt(),
    "classifier": lambda data_dir: finetuning.pretrained_classifier(),
}


def _fine_tuned(
    network: str, form: forms.Form, data_dir: Path, steps: int = finetuning.STEPS
) -> Training:
    return finetuning.fine_tuned(form, PRETRAINED[network](data_dir), steps)


FINE_TUNING: dict[str, Make] = {
    f"{network}_{form}": partial(_fine_tuned, network, form)
    for network in ("perceptron", "convolution", "gpt")
    for form in forms.FORMS
}
# As a script would fine-tune for an epoch or two: a new output, few steps.
SHORT: dict[str, Make] = {
    f"{network}_short": partial(
        _fine_tuned, network, "full", steps=finetuning.SHORT_STEPS
    )
    for network in ("perceptron", "convolution", "classifier")
}
# Of which the report takes means.
FAMILIES: dict[str, dict[str, Make]] = {
    "language models": LANGUAGE,
    "fine-tuning": FINE_TUNING,
    "fine-tuning, 350 steps": SHORT,
    "vision transformer": {"vision_transformer": vision.vision_transformer},
    "deep networks": {
        "deep_convolution": deep_convolution.deep_convolution,
        "very_deep_convolution": deep_convolution.very_deep_convolution,
        "deep_residual": deep_residual.deep_residual,
    },
    "diffusion": {"diffusion": lambda data_dir: diffusion.diffusion()},
    "little noise": {
        "poisson": lambda data_dir: physics.poisson(),
        "burgers": lambda data_dir: physics.burgers(),
    },
    "long runs": LONG,
}
TRAININGS = {
    name: make for family in FAMILIES.values() for name, make in family.items()
}
