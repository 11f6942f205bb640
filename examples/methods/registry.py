"""Every way to set the learning rate that ``--method`` offers, by name.

Schedules, controls, the library's rules, and published peers, each as one ``Method``:
an optimizer and how to read it. To add one, add a line to the table it belongs to.
"""

from typing import Any

from methods.controls import CONTROLS
from methods.learned_ablations import LEARNED_ABLATIONS
from methods.method import Method, Plan, scheduled
from methods.optimizers import OPTIMIZERS, WITHOUT_MOMENTUM, Make, clipped
from methods.peers import PEERS
from methods.rules import (
    AUTOTUNE,
    LEARNED,
    LEARNERS,
    RULES,
    autotune,
    learned,
    named_rule,
)
from methods.schedules import SCHEDULES

# Of the experiment alone; in the benchmark's 50 epochs it is ``step``.
EXPERIMENT = ("step_fifths",)
_RULES = tuple(dict.fromkeys((*RULES, *LEARNED)))  # as they may follow a schedule
NAMES = tuple(
    name
    for name in (*AUTOTUNE, *SCHEDULES, *CONTROLS, *_RULES, *PEERS)
    if name not in EXPERIMENT
)
# What the scripts offer: these, and the learners around a schedule.
OFFERED = (*NAMES, *EXPERIMENT, *(f"cosine+{rule}" for rule in LEARNERS))


def default_rate(name: str) -> float:
    """The base rate of a method that is given none."""
    if name == "fixed":
        return 0.001
    return PEERS[name][0] if name in PEERS else 0.01


def build(
    name: str,
    optimizer: str,
    learning_rate: Any,
    steps: int,
    steps_per_epoch: int,
    clip_norm: float | None = None,
    seed: Any = 0,
) -> Method:
    """Makes a method.

    Args:
      name: One of ``NAMES`` or ``EXPERIMENT``, or a schedule and a rule as in
        ``cosine+trend``, which multiplies the two.
      optimizer: One of ``OPTIMIZERS``; ignored by ``peers.OWN_OPTIMIZER``.
      learning_rate: The base rate, which may be traced; None for the method's default.
      steps: Length of the whole run.
      steps_per_epoch: Length of an epoch.
      clip_norm: Gradients are clipped to this global norm: by the base optimizer, so
        that what is around it sees gradients of the loss; for peers, before.
      seed: Of the learners' exploration; may be traced.

    Returns:
      The method.

    Raises:
      ValueError: If there is no such method or optimizer.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(
            f"there is no optimizer {optimizer!r}, but {', '.join(OPTIMIZERS)}"
        )
    if learning_rate is None:
        learning_rate = default_rate(name)

    def base_of(makes: dict[str, Make]) -> Make:
        return lambda rate: clipped(makes[optimizer](rate), clip_norm)

    base, bare = base_of(OPTIMIZERS), base_of(WITHOUT_MOMENTUM)
    plan = Plan(base, bare, learning_rate, steps, steps_per_epoch, seed)
    if name in SCHEDULES:
        return scheduled(name, plan)
    if name in CONTROLS:
        return CONTROLS[name](plan)
    if name in LEARNED_ABLATIONS:
        return learned(plan, LEARNED_ABLATIONS[name](steps, seed))
    if name in _RULES:
        return named_rule(name, plan)
    if name in AUTOTUNE:
        return autotune(plan, *AUTOTUNE[name])
    if name in PEERS:
        peer = PEERS[name][1](plan)
        return peer._replace(optimizer=clipped(peer.optimizer, clip_norm))
    anchor, _, rule = name.partition("+")
    if anchor in SCHEDULES and rule in _RULES:
        return named_rule(rule, plan, anchor)
    raise ValueError(
        f"there is no method {name!r}, but {', '.join(NAMES)}, and a schedule and a "
        "rule as in cosine+trend"
    )
