"""Published methods that set the learning rate, each at its own defaults."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from optax import contrib

from methods.hypergradient import hypergradient
from methods.method import FRACTION, Method, Plan, averaged, controlled, make_schedule
from optax_adaptive import controllers


def _greedylr(plan: Plan) -> Method:
    """GreedyLR with its own defaults: absolute bounds, every step judged."""
    rule = controllers.greedy(
        min_scale=1e-3 / plan.learning_rate, max_scale=1.0 / plan.learning_rate
    )
    return controlled(plan, rule, accumulation_size=1)


def _reduce_on_plateau(plan: Plan) -> Method:
    """Optax's rule, judging the mean training loss of an epoch."""
    rule = contrib.reduce_on_plateau(
        factor=0.5, patience=3, accumulation_size=plan.steps_per_epoch
    )
    return Method(
        optax.chain(plan.base(plan.learning_rate), rule),
        lambda state, step: plan.learning_rate * state[1].scale,
        decides=True,
    )


def _schedule_free(plan: Plan) -> Method:
    warmup = max(plan.steps // 20, 1)
    tx = contrib.schedule_free_adamw(plan.learning_rate, warmup_steps=warmup)
    return Method(
        tx,
        lambda state, step: plan.learning_rate * jnp.minimum(step / warmup, 1),
        contrib.schedule_free_eval_params,
        averages=True,
    )


def _peer(tx: optax.GradientTransformation, learning_rate: Callable) -> Method:
    return Method(optax.with_extra_args_support(tx), learning_rate)


def _prodigy_cosine(plan: Plan) -> Method:
    """Under a cosine of its factor, as its paper runs it."""
    schedule = make_schedule("cosine", plan)
    return _peer(
        contrib.prodigy(schedule),
        lambda state, step: schedule(step) * state.estim_lr,
    )


def _averaged_peer(tx: optax.GradientTransformation) -> Method:
    """DoG within averaging, as its paper runs it, and DoWG, whose bound is of averages.

    DoG's paper averages by polynomial decay with a gamma of 8 (Shamir and Zhang, 2013),
    whose half-life is 8% of the elapsed steps; here it is a tenth, which is nearly the
    same and what all averages of this comparison have.
    """
    return averaged(_peer(tx, _no_rate), fraction=FRACTION)


def _no_rate(state, step):
    return jnp.nan  # DoG, DoWG and COCOB have a rate for each step or parameter.


# Each with the learning rate that it recommends. Three come in two forms: as Optax has
# them, and with the schedule or the averaging that their papers run them with.
PEERS: dict[str, tuple[float, Callable[[Plan], Method]]] = {
    "reduce_on_plateau": (0.01, _reduce_on_plateau),
    "greedylr": (0.01, _greedylr),
    # Mishchenko and Defazio, 2023, arXiv 2306.06101.
    "prodigy": (
        1.0,
        lambda p: _peer(
            contrib.prodigy(p.learning_rate),
            lambda state, step: p.learning_rate * state.estim_lr,
        ),
    ),
    "prodigy_cosine": (1.0, _prodigy_cosine),
    "dadapt_adamw": (
        1.0,
        lambda p: _peer(
            contrib.dadapt_adamw(p.learning_rate),
            lambda state, step: p.learning_rate * state.estim_lr,
        ),
    ),
    # Ivgi et al., 2023, arXiv 2302.12022, and Khaled et al., 2023, arXiv 2305.16284.
    "dog": (1.0, lambda p: _peer(contrib.dog(p.learning_rate), _no_rate)),
    "dog_averaged": (1.0, lambda p: _averaged_peer(contrib.dog(p.learning_rate))),
    "dowg": (1.0, lambda p: _peer(contrib.dowg(p.learning_rate), _no_rate)),
    "dowg_averaged": (1.0, lambda p: _averaged_peer(contrib.dowg(p.learning_rate))),
    "mechanize": (
        0.01,
        lambda p: _peer(
            contrib.mechanize(p.base(p.learning_rate)),
            lambda state, step: p.learning_rate * jnp.sum(state.s),
        ),
    ),
    "momo_adam": (
        0.01,
        # The loss bounds its step, so this is the largest rate that it may take.
        lambda p: _peer(
            contrib.momo_adam(p.learning_rate), lambda state, step: p.learning_rate
        ),
    ),
    "cocob": (1.0, lambda p: _peer(contrib.cocob(p.learning_rate), _no_rate)),
    "schedule_free_adamw": (0.0025, _schedule_free),
    "hypergradient": (
        0.01,
        lambda p: _peer(
            hypergradient(p.base(p.learning_rate)),
            lambda state, step: p.learning_rate * state.rate_factor,
        ),
    ),
}
# Those that replace the base optimizer: it makes no difference to them.
OWN_OPTIMIZER = tuple(
    name
    for name in PEERS
    if name not in ("reduce_on_plateau", "greedylr", "mechanize", "hypergradient")
)
