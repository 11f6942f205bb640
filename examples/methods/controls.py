"""Controls: static schedules whose parameters are averaged, as ``autotune`` averages.

They show what averaging alone gives, so that the rest is what feedback gives.
"""

from collections.abc import Callable

from methods.method import FRACTION, Method, Plan, averaged, scheduled


def averaged_schedule(name: str, plan: Plan) -> Method:
    """The base optimizer under a schedule, within averaging."""
    return averaged(scheduled(name, plan), fraction=FRACTION)


CONTROLS: dict[str, Callable[[Plan], Method]] = {
    "constant_averaged": lambda plan: averaged_schedule("fixed", plan),
    "cosine_averaged": lambda plan: averaged_schedule("cosine", plan),
}
