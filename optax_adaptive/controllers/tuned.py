"""tuned: finds a rate, then maintains it. What autotune runs."""

from optax_adaptive._controller import Controller
from optax_adaptive.controllers._without_noise import without_noise
from optax_adaptive.controllers.maintain import MaintainSettings, maintain
from optax_adaptive.controllers.search import SearchSettings, search
from optax_adaptive.controllers.search.settings import LEAST_STEPS
from optax_adaptive.controllers.then import then
from optax_adaptive.state.validation import check_count

# Interpolated gradients have less noise, and a run tolerates a higher rate. A trial,
# which is plain, has no momentum either: the gradient may turn far below that rate.
INTERPOLATED = SearchSettings(even_factor=0.5, most_factor=3.0)


def tuned(
    total_steps: int | None = None,
    interpolate: bool = False,
    search_settings: SearchSettings | None = None,
    maintain_settings: MaintainSettings | None = None,
) -> Controller:
    """The :func:`search`, and then :func:`maintain` from the rate that it finds.

    If the search finds that losses have no noise, the rate falls linearly to 0 over the
    last 30% of ``total_steps``.

    Args:
      total_steps: Number of updates of the whole run, an integer of at least 200, or
        None if it is not given.
      interpolate: Whether params are interpolated with the average, by 0.7.
      search_settings: Constants of the search; by default those for ``interpolate``.
      maintain_settings: Constants of :func:`maintain`; by default likewise.

    Returns:
      A :class:`~optax_adaptive.Controller`, for use within :func:`with_averaging` and
      :func:`with_rollback`, as :func:`autotune` uses it.

    Raises:
      ValueError: If ``total_steps`` is not an integer of at least 200, or
        ``interpolate`` is not a bool.
      TypeError: If settings are of another kind.

    Example:
      >>> from optax_adaptive import controllers
      >>> rule = controllers.tuned(total_steps=2000)
      >>> rule.needs
      ('with_averaging', 'with_rollback')
    """
    if search_settings is None:
        search_settings = INTERPOLATED if interpolate else SearchSettings()
    if total_steps is not None:
        total_steps = check_count("total_steps", total_steps, LEAST_STEPS)
    first = search(total_steps, search_settings)
    second = maintain(total_steps, interpolate, maintain_settings)
    rule = then(first, without_noise(second, total_steps))
    return rule._replace(name="tuned-interpolated" if interpolate else "tuned")
