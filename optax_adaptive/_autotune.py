"""autotune: no learning rate to tune. Listen, climb, compare, then hold and average."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_adaptive import (
    _averaging,
    _correction,
    _hold,
    _meter,
    _noise_cost,
    _return,
    _search,
    _snapshot,
)
from optax_adaptive._controller import Array
from optax_adaptive._leaves import as_arrays
from optax_adaptive._pack import check_size, pack, unpack
from optax_adaptive._scale import ScaleByControllerState, as_metric, multiply
from optax_adaptive._validate import check_count, check_flag, check_optimizer

# Half-life of the average, as a fraction of the steps held, where noise costs what is
# won meanwhile (_correction.py). With interpolation it is never shorter than that: it
# takes the place of momentum.
AVERAGING, AVERAGING_INTERPOLATED = 0.1, 0.2
INTERPOLATION = 0.7  # of the parameters with the average, where that is asked for


class AutotuneState(NamedTuple):
    """State of :func:`autotune`."""

    inner_state: Any
    scaling: ScaleByControllerState  # holds the factor and a packed Memory
    snapshot: _snapshot.SnapshotState
    averaging: _averaging.AveragingState
    phase: Array  # shape=(), dtype=int32: 0 listen, 1 climb, 2 compare, 3 hold
    found_scale: Array  # shape=(), dtype=float32: what the search found; 0 before


class Memory(NamedTuple):
    """All scalars that autotune remembers."""

    meter: _meter.Meter  # first: it is read by ``_meter.LAYOUT`` alone
    search: _search.Search
    hold: _hold.Hold
    returns_left: Array  # shape=(), dtype=int32: until params equal the snapshot


class Decision(NamedTuple):
    """What becomes of this step's update."""

    lr_scale: Array
    step: _hold.Step


def autotune(
    optimizer: optax.GradientTransformation,
    *,
    total_steps: int | None = None,
    interpolate: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Finds the learning rate of ``optimizer`` by itself, and holds it.

    The optimizer's own rate does not matter: from 1e-7 to 10 results differ by rounding
    alone, which a run may amplify (of float16, where updates of 1e-7 have few digits
    left, it is coarse). What it does, all of it from the loss alone:

    1. *Listen*, 12 steps. Updates too small to move anything measure the loss, its
       noise and the size of an update.
    2. *Climb*, about 20 to 80 steps. The rate rises exponentially from where nothing
       moves until the loss is clearly worse than at the start. Back to the start.
    3. *Compare*. Three short runs, at rates a factor of √10 apart from a fifth of that
       edge down, or on both sides of it, each annealed to 0 and each from the start.
       Where they all end alike, on a plateau, more follow below, until one is worse.
       The best of them, times 0.2 (0.4 with ``interpolate``), which is what
       distinguishes long runs from short, is the rate. Back to the start, unless the
       last of them had less than twice that rate: then on from its end.
    4. *Hold* that rate, and correct it: once a block of steps, what noise costs (the
       loss of the newest parameters above that of their average) is set against what is
       still won. Where it costs more than the loss falls (twice as much, with
       ``interpolate``), the rate comes down, and where it costs less than a quarter, it
       goes up; where batches differ, not so in the first 250 steps, nor while the loss
       falls tenfold. One that proves far too high within the first quarter of the run
       (and 250 steps), by that or, without ``interpolate``, because the loss falls
       along the way back to the first parameters, starts over from them. A rise that
       its noise does not explain leads back to a copy of the average from before it (or
       to the first parameters, if there is none yet), at half the rate, which is
       reached over ten steps, and with the state of ``optimizer`` initialised anew: its
       momentum would lead there again. The update of a single loss, or gradient, that
       is not finite is left out.
    5. *Average* the parameters all along: evaluate :func:`eval_params`. The average
       takes the place of annealing, which with a known horizon as well won nothing. It
       is longer where noise costs much, and shorter where the loss falls fast; where
       that is so fast that it lags behind, :func:`eval_params` gives the parameters.

    The first three take about 80 steps of 500, 135 of 2,000 and 530 of 10,000, and 105
    where ``total_steps`` is not known. In this time the parameters move to and fro:
    read its loss as that of a search.

    Memory, beside the optimizer's own: an average of params (float32 where they are
    coarser), and a copy of it in the dtypes of params.

    Args:
      optimizer: Any optimizer with a *constant* learning rate to which its update is
        proportional, such as ``optax.adamw(1e-3)`` (not so ``optax.rprop`` and
        ``optax.fromage``). Its state begins anew at each return, those of the search
        included: what was put into it by hand is lost, and counts of schedules are 0
        again. Rules of this library may be chained inside it: they rest during the
        search, then scale the rate that is found here; a blow-up leaves them their
        memory, and where the hold starts over they do too. What
        :func:`observe` is given goes to them alone, to those with
        ``feedback="observe"`` as the metric that they follow. A run is resumed with the
        same optimizer: what was found is a factor on its rate.
      total_steps: Number of updates of the whole run, an integer of at least 200, or
        None where it is not known. It sizes the search, and the first part of the
        hold, in which a rate too high starts over.
      interpolate: Gradients are taken between the parameters and their average, seven
        tenths of the way, as in Schedule-Free. It takes the place of momentum, so give
        it an optimizer without: ``optax.adam(1e-3, b1=0.0)`` or ``optax.sgd(1e-3)``,
        and parameters of float32, whose rounding it multiplies by three.
        What it wins is in docs/autotune.md; with momentum as well it loses.

    Returns:
      A transformation to use outermost (its updates must be what is added to the
      parameters; ``optax.MultiSteps`` around it is fine). Its ``update`` takes the
      keyword ``value``: the scalar loss at the parameters *before* the update, of the
      same meaning all along: one that rises by design looks like a blow-up. The average
      is float32 where params are coarser. :func:`lr_scale` reads the factor on the
      optimizer's own rate (with rules inside, which have theirs, :func:`summary` does),
      :func:`summary` the phase and what was found, and :func:`select_on_rollback` lets
      batch statistics follow each return.

    Raises:
      ValueError: If ``total_steps`` is out of range or ``interpolate`` no bool; if
        ``init`` finds autotune or another wrapper of this library inside; if
        ``update`` is given no params, a ``value`` that is not a scalar, or the state of
        an autotune whose ``total_steps`` made its memory another.
      TypeError: If ``optimizer`` is none, or, in ``update``, if ``value`` is missing.

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
    optimizer = optax.with_extra_args_support(optimizer)
    check_flag("interpolate", interpolate)
    if total_steps is not None:
        check_count("total_steps", total_steps, 200)
        total_steps = int(total_steps)
    budget = _search.budget(total_steps, interpolate)
    probation = _hold.probation(total_steps)
    interpolation = INTERPOLATION if interpolate else 0.0
    high = _correction.HIGH_INTERPOLATED if interpolate else _correction.HIGH

    def first_memory() -> Memory:
        return Memory(
            meter=_meter.first("min"),
            search=_search.first_search(budget),
            hold=_hold.first_hold(),
            returns_left=jnp.zeros((), jnp.int32),
        )

    layout = jax.eval_shape(first_memory)

    def init_fn(params):
        params = as_arrays(params)
        inner_state = optimizer.init(params)
        if _averaging.find_all(inner_state) or _snapshot.find_all(inner_state):
            raise ValueError(
                "autotune averages and goes back by itself: give it an optimizer that "
                "holds no autotune, with_averaging or with_rollback"
            )
        return AutotuneState(
            inner_state=inner_state,
            scaling=ScaleByControllerState(
                lr_scale=jnp.zeros((), jnp.float32),
                controller_memory=pack(first_memory()),
            ),
            snapshot=_snapshot.empty(params, inner_state, restore_inner=False),
            averaging=_averaging.empty(params),
            phase=jnp.zeros((), jnp.int32),
            found_scale=jnp.zeros((), jnp.float32),
        )

    def search_step(memory: Memory, value: Array, product: Array, way_back: Array):
        del product, way_back
        search, step = _search.advance(memory.search, value, budget)
        no = jnp.zeros((), jnp.bool_)
        decision = Decision(
            lr_scale=jnp.exp(step.log_scale),
            step=_hold.Step(
                is_taken=memory.meter.step == 0,
                is_restored=step.is_restart,
                is_blown_up=no,
            ),
        )
        return memory._replace(search=search), decision

    def hold_step(memory: Memory, value: Array, product: Array, way_back: Array):
        search = memory.search
        hold, step = _hold.advance(
            memory.hold,
            value,
            product,
            way_back,
            search.center,
            search.deviation,
            has_noise=search.has_noise,
            probation=probation,
            high=high,
        )
        decision = Decision(
            lr_scale=jnp.exp(search.log_scale + hold.log_factor) * _hold.returned(hold),
            step=step,
        )
        return memory._replace(hold=hold), decision

    def return_step(memory: Memory, value: Array, product: Array, way_back: Array):
        del value, product, way_back
        no, yes = jnp.zeros((), jnp.bool_), jnp.ones((), jnp.bool_)
        return memory, Decision(
            lr_scale=jnp.zeros((), jnp.float32),
            step=_hold.Step(is_taken=no, is_restored=yes, is_blown_up=no),
        )

    # A conditional copies each array that it lets out, one by one.
    def on_words(branch):
        def run(words, *heard):
            memory, decision = branch(unpack(layout, words), *heard)
            return pack(memory), decision

        return run

    # Made once: eager calls would compile new ones anew.
    branches = [on_words(branch) for branch in (search_step, hold_step, return_step)]

    def update_fn(updates, state, params=None, *, value=None, **extra_args):
        if params is None:
            raise ValueError("update() needs the argument `params`")
        updates, params = as_arrays((updates, params))
        # Or XLA moves what computes gradients into the conditionals that use them,
        # where a CPU has one core: a tenth of a training step of ResNet-18.
        updates = lax.optimization_barrier(updates)
        value = _snapshot.finite_or_nan(as_metric(value), updates)
        words = state.scaling.controller_memory
        check_size(layout, words, "autotune with this total_steps")
        memory = unpack(layout, words)
        is_away = _return.is_away(
            memory.returns_left, state.snapshot.snapshot_params, params
        )
        value = jnp.where(is_away, jnp.nan, value)  # of no params that count
        is_found = memory.search.stage == _search.FOUND
        # Also at its first step, and at that of one that starts over: rules begin then.
        is_before_hold = memory.hold.elapsed == 0
        is_due = _noise_cost.is_due(memory.hold.elapsed) & ~is_before_hold
        average = state.averaging.averaged_params
        cost = _noise_cost.measure(
            *(average, params, updates),
            is_measured=is_due,
            interpolation=interpolation,
        )
        # On probation the copy is of the first parameters, or of those before a raise.
        # Gradients in between bear twice the rate, from which the way back often leads
        # down.
        on_probation = memory.hold.elapsed < probation
        way_back = _noise_cost.measure(
            *(average, state.snapshot.snapshot_params, updates),
            is_measured=is_due & on_probation & (not interpolate),
            interpolation=0.0,
        )
        words, decision = lax.switch(
            jnp.where(is_away, 2, is_found.astype(jnp.int32)),
            branches,
            *(words, value, cost.value, way_back.value),
        )
        memory = unpack(layout, words)
        step = decision.step
        is_left_out = ~(jnp.abs(value) <= _meter.LARGEST)  # NaN compares false

        def update(inner_state):
            grads = _snapshot.leave_out(updates, is_left_out)
            inner_state = _return.rest_rules(inner_state, is_before_hold)
            extras = extra_args | {"value": value}
            extras = _noise_cost.told(extras, cost, interpolation)
            return optimizer.update(grads, inner_state, params, **extras)

        def get_copy():
            # Of a blow-up that has begun the average hardly knows. Before the hold
            # there is none, and the copy is of the first parameters.
            def of_leaf(param, mean):
                is_kept = is_before_hold | jnp.isnan(mean)  # of masks of -inf
                return jnp.where(is_kept, param, mean.astype(param.dtype))

            return jax.tree.map(of_leaf, params, average)

        def size(inner_state):
            moves, _ = update(inner_state)
            return _norm(moves) / (1.0 + _norm(params))

        is_listening = memory.search.stage == _search.LISTEN
        inner_state, snapshot, norm = _snapshot.before_update(
            state.snapshot,
            get_copy,
            state.inner_state,
            optimizer.init,
            is_taken=step.is_taken,
            was_left_out=memory.meter.run > 0,
            is_forgotten=is_before_hold,
            # To measure the updates below would have them written out at every step.
            measure=size,
            is_measured=is_listening,
        )
        moves, inner_state = update(inner_state)
        norm = jnp.where(is_listening, norm, 0.0)
        search, heard_scale = _search.hear(memory.search, norm)
        lr_scale = jnp.where(is_listening, heard_scale, decision.lr_scale)
        memory = memory._replace(search=search)
        moves, inner_state, snapshot = _snapshot.after_update(
            snapshot,
            params,
            multiply(moves, jnp.where(is_left_out, 0.0, lr_scale)),
            inner_state,
            is_restored=step.is_restored,
            is_blown_up=step.is_blown_up,
        )
        correction = memory.hold.correction  # the first one, before the hold
        moves, averaging = _averaging.average(
            state.averaging,
            params,
            moves,
            fraction=AVERAGING_INTERPOLATED * jnp.maximum(correction.half_life, 1.0)
            if interpolate
            else AVERAGING * correction.half_life,
            interpolation=interpolation,
            is_restarted=step.is_restored | ~is_found,
        )
        averaging = averaging._replace(is_behind=correction.is_behind)
        memory = memory._replace(
            meter=_count(memory.meter, value),
            returns_left=_return.left(memory.returns_left, is_away, step.is_restored),
        )
        return moves, AutotuneState(
            inner_state=inner_state,
            scaling=ScaleByControllerState(lr_scale, pack(memory)),
            snapshot=snapshot,
            averaging=averaging,
            phase=memory.search.stage,
            found_scale=jnp.where(
                memory.search.stage == _search.FOUND,
                jnp.exp(memory.search.log_scale),
                0.0,
            ),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _count(meter: _meter.Meter, value: Array) -> _meter.Meter:
    """Each value is a window of its own here."""
    meter = _meter.accumulate(meter, value, jnp.ones((), jnp.bool_))
    is_new = meter.size > 0
    last = jnp.where(is_new, meter.mean, meter.last)
    best = jnp.where(is_new, jnp.minimum(meter.best, last), meter.best)
    windows = meter.windows + is_new.astype(jnp.int32)
    run = meter.run  # kept: the next update asks whether this one was left out
    meter = _meter.open_window(meter._replace(last=last, best=best, windows=windows))
    return meter._replace(run=run)


def _norm(tree: Any) -> Array:
    """Euclidean norm, float32, of what may be too small to be squared.

    Of finite numbers: a mask of -inf or integers is nothing that moves.
    """
    leaves = [
        jnp.where(jnp.isfinite(leaf), jnp.abs(leaf), 0.0).astype(jnp.float32)
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    peaks = [jnp.max(leaf, initial=_search.TINY) for leaf in leaves]
    peak = functools.reduce(jnp.maximum, peaks, jnp.float32(_search.TINY))
    squares = [jnp.sum(jnp.square(leaf / peak)) for leaf in leaves]
    return peak * jnp.sqrt(sum(squares, start=jnp.zeros((), jnp.float32)))
