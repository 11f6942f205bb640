"""autotune: no learning rate to tune. A search, a rate maintained, and an average."""

from typing import Any

import optax

from optax_adaptive.controllers.maintain.settings import INTERPOLATION
from optax_adaptive.controllers.tuned import tuned
from optax_adaptive.state.validation import check_optimizer
from optax_adaptive.transforms._tuned_optimizer import (
    chain_of_fixed_rate,
    with_warnings,
    without_rules,
)
from optax_adaptive.transforms.averaging import WithAveragingState, with_averaging
from optax_adaptive.transforms.rollback import with_rollback
from optax_adaptive.transforms.scale_by_controller import scale_by_controller

AutotuneState = WithAveragingState

# Half-life of the average, as a fraction of the steps, where the averaging gap is as
# large as the decrease. With interpolation the average takes the place of momentum.
AVERAGING, AVERAGING_INTERPOLATED = 0.1, 0.2
# Wide enough for base rates from 1e-7 to 10 and beyond, whatever the size of updates.
MIN_SCALE, MAX_SCALE = 1e-30, 1e30


def autotune(
    optimizer: optax.GradientTransformation,
    *,
    total_steps: int | None = None,
    interpolate: bool = False,
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Finds a learning rate for ``optimizer``, and maintains it.

    The optimizer's own rate does not matter: for own rates from 1e-7 to 10, the rates
    found differ by a thousandth, from the rounding of params (by more if these are
    coarser than float32). A run may amplify that. In substance it is::

        rule = controllers.tuned(total_steps, interpolate)
        rule = scale_by_controller(rule, min_scale=1e-30, max_scale=1e30)
        tx = with_rollback(chain(optimizer, rule), backoff=1.0, restore_inner=False)
        tx = with_averaging(tx, fraction=0.1)

    1. :func:`controllers.search` finds a rate by a range test and a trial run. It takes
       about 110 steps, and 60 more for each trial that is repeated. Meanwhile the
       parameters are temporary. A trial whose rate was not far too high is kept, and is
       part of the warm-up.
    2. :func:`controllers.maintain` keeps that rate, and corrects it by the averaging
       gap. If the rate proves far too high early on, the run restarts at a lower one,
       from where this phase began.
    3. :func:`with_rollback` rolls back to a copy of the average when the loss rises by
       more than its noise explains, and skips updates of non-finite loss or gradients.
    4. :func:`with_averaging` averages the parameters: evaluate :func:`eval_params`. The
       average takes the place of annealing. Its half-life, a tenth of the steps (a
       fifth with ``interpolate``), is longer where the gap is large.

    On full batches, where losses have no noise, with ``total_steps`` the rate falls
    linearly to 0 over the last 30% of the steps, since an average does little there.

    Memory, beside the optimizer's own: an average of params (float32 where they are
    coarser), and a copy of it in the dtypes of params; for frozen params too, so freeze
    those outside, as for LoRA, by ``optax.partition({"train": autotune(optimizer),
    "frozen": optax.set_to_zero()}, labels)``.

    Args:
      optimizer: Any optimizer with a *constant* learning rate to which its update is
        proportional, such as ``optax.adamw(1e-3)``, without rules of this library. Not
        ``optax.rprop`` or ``fromage``; nor, of which ``init`` warns, those that keep
        parameters in their state, ``mechanize`` and ``schedule_free``, or set their own
        rate, ``prodigy``, ``dadapt_adamw`` and ``reduce_on_plateau``. Its state is
        initialised anew at rollbacks, restarts and by the search: changes by hand are
        lost, and schedules, of which ``init`` warns, count from 0. Resume with the same
        optimizer. Its rate may differ, also by hand in the state of
        ``optax.inject_hyperparams``: the run continues at the first rate, known from
        the size of a first update. The rate of a part alone changes as given.
      total_steps: Number of updates of the whole run, an integer of at least 200, or
        None if it is not given. A run may be resumed with another value.
      interpolate: Whether to take gradients seven tenths of the way from the point that
        the optimizer moves to its average, as in Schedule-Free. That replaces momentum:
        give an optimizer without it, ``optax.adam(1e-3, b1=0.0)`` or
        ``optax.sgd(1e-3)``, and parameters of float32, whose rounding error it triples.
      axis_name: Axis, or tuple of axes, over which to average ``value``, inside
        ``jax.pmap`` or ``jax.shard_map``. Average gradients yourself, and keep params
        whole on each device (docs/devices.md). Under ``jax.jit``, None is right,
        whatever the sharding.

    Returns:
      A transformation to use outermost (its updates must be what is added to the
      parameters). Its ``update`` takes the keyword ``value``: the scalar loss at the
      parameters *before* the update, in any real dtype. Its definition must not change
      (a loss that rises by design looks like a blow-up), and gradients must be those of
      it: for gradients of a sum, pass the sum. ``optax.MultiSteps`` around it passes on
      the loss of the last micro-batch alone: give it the mean of those since the last
      update. :func:`lr_scale` reads the factor on the rate that the run began with,
      :func:`summary` the rest; :func:`select_on_rollback` is for batch statistics.

    Raises:
      ValueError: If ``total_steps`` is out of range or ``interpolate`` is not a bool;
        if ``init`` finds a rule or a wrapper of this library, SAM, or accumulation of
        gradients; if ``update`` is given no params, updates of another structure or
        other shapes, a ``value`` that is no scalar, a ``value`` or gradients that vary
        over a mesh axis, or a state of another optimizer, ``interpolate`` or layout.
      TypeError: If ``optimizer`` is not a gradient transformation; in ``init``, if a
        leaf of the params is not an array; in ``update``, if ``value`` is missing or
        not one real number.

    Example:
      >>> import jax, jax.numpy as jnp, optax, optax_adaptive
      >>> tx = optax_adaptive.autotune(optax.sgd(1e-7), total_steps=300)
      >>> def loss_fn(params):
      ...     return jnp.sum(jnp.square(params - 1.0))
      >>> def step(carry, _):
      ...     params, state = carry
      ...     loss, grads = jax.value_and_grad(loss_fn)(params)
      ...     updates, state = tx.update(grads, state, params, value=loss)
      ...     return (optax.apply_updates(params, updates), state), loss
      >>> params = jnp.zeros(3)
      >>> (params, state), _ = jax.lax.scan(
      ...     step, (params, tx.init(params)), length=300
      ... )
      >>> bool(loss_fn(optax_adaptive.eval_params(state, params)) < 1e-3)
      True

    Reference:
      Smith, `Cyclical Learning Rates for Training Neural Networks
      <https://arxiv.org/abs/1506.01186>`_, 2015. Ivgi et al., `DoG is SGD's Best
      Friend <https://arxiv.org/abs/2302.12022>`_, 2023. Wu et al., `Understanding
      Short-Horizon Bias <https://arxiv.org/abs/1803.02021>`_, 2018. Defazio et al.,
      `The Road Less Scheduled <https://arxiv.org/abs/2405.15682>`_, 2024.
    """
    check_optimizer(optimizer)
    rule = scale_by_controller(
        tuned(total_steps, interpolate), min_scale=MIN_SCALE, max_scale=MAX_SCALE
    )
    # The rule backs off by itself, and initialising the optimizer anew saves a copy.
    tx = with_rollback(
        chain_of_fixed_rate(without_rules(optimizer), rule),
        backoff=1.0,
        restore_inner=False,
        axis_name=axis_name,
    )
    tx = with_averaging(
        tx,
        fraction=AVERAGING_INTERPOLATED if interpolate else AVERAGING,
        interpolation=INTERPOLATION if interpolate else 0.0,
    )
    return with_warnings(tx)
