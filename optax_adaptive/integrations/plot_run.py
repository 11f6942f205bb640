"""plot_run: the picture of a run, from a log of what ``summary`` gives."""

from collections.abc import Mapping, Sequence
from itertools import cycle, groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from optax_adaptive.transforms.in_words import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "calibrate": "tab:gray",
    "range test": "tab:red",
    "trial": "tab:orange",
    "warm-up": "tab:green",
    "maintain": "tab:blue",
    "rule": "tab:blue",
}
NEEDED = ("step", "loss", "lr_scale", "phase", "cause")
# Losses of these phases may be of any size.
WILD = ("range test", "trial")
Row = Mapping[str, Any]


def plot_run(log: Sequence[Row], base_rate: float = 1.0) -> "Figure":
    """Draws loss and learning rate over a run, with its phases shaded and labelled.

    It needs matplotlib, which the library does not install.

    Args:
      log: At least two rows in the order of their steps, each with ``step``, ``loss``
        and what :func:`summary` gives of one controller. ``eval_loss``, in the rows
        that have it, is the loss of :func:`eval_params`.
      base_rate: The optimizer's own learning rate, which ``lr_scale`` multiplies.

    Returns:
      A ``matplotlib.figure.Figure``: ``savefig`` writes it. Where a search comes
      first, there are two columns: the search, and the whole run.

    Raises:
      ValueError: If there are fewer than two rows, or a row lacks a name.

    Example:
      >>> import jax.numpy as jnp, optax, optax_adaptive
      >>> from optax_adaptive import integrations
      >>> tx = optax_adaptive.autotune(optax.sgd(1e-3))
      >>> params, log = jnp.ones(3), []
      >>> state = tx.init(params)
      >>> for step in range(2):
      ...     loss, grads = jnp.sum(params**2), 2 * params
      ...     updates, state = tx.update(grads, state, params, value=loss)
      ...     params = optax.apply_updates(params, updates)
      ...     numbers = optax_adaptive.summary(state)
      ...     log.append({"step": step, "loss": loss} | numbers)
      >>> figure = integrations.plot_run(log, base_rate=1e-3)
      >>> [axes.get_ylabel() for axes in figure.axes]
      ['loss', 'learning rate']
    """
    # Whoever does not draw needs no matplotlib.
    from matplotlib.figure import Figure

    _check(log)
    rows = [{**row, **in_words(row)} for row in log]
    phases = [row["phase_name"] for row in rows]
    first_after = next(
        (place for place, name in enumerate(phases) if name in ("maintain", "rule")), 0
    )
    ends = [first_after, len(rows)] if first_after > 1 else [len(rows)]
    figure = Figure(figsize=(5.5 * len(ends) + 1, 6.0), layout="constrained")
    columns = figure.subplots(2, len(ends), sharey="row", sharex="col", squeeze=False).T
    for (top, bottom), end in zip(columns, ends, strict=True):
        part = rows[:end]
        _draw_losses(top, part)
        bottom.plot(
            [int(row["step"]) for row in part],
            [base_rate * float(row["lr_scale"]) for row in part],
            color="black",
        )
        for axes in (top, bottom):
            _shade(axes, part)
        _name_phases(top, part)
        _name_events(bottom, part, base_rate)
        bottom.set(xlabel="step", yscale="log")
    _bound_losses(columns[0][0], rows)
    _bound_rates(columns[0][1], rows, base_rate)
    columns[0][0].set_ylabel("loss")
    columns[0][1].set_ylabel("learning rate")
    columns[-1][0].legend(loc="upper right")
    if len(ends) > 1:
        columns[0][0].set_title("the search")
        columns[1][0].set_title("the whole run")
    return figure


def _check(log: Sequence[Row]) -> None:
    if len(log) < 2:
        raise ValueError(
            f"the log must have at least two rows to draw, but it has {len(log)}"
        )
    for place, row in enumerate(log):
        missing = [name for name in NEEDED if name not in row]
        if missing:
            raise ValueError(
                f"row {place} of the log must have {missing}: make each as "
                '{"step": step, "loss": loss} | optax_adaptive.summary(opt_state), '
                "of an optimizer state with one controller"
            )


def _draw_losses(axes: "Axes", rows: Sequence[Row]) -> None:
    """The loss of each step, and of the average where it is known."""
    for name, label, style in (
        ("loss", "of the batch", {"color": "tab:gray", "linewidth": 0.8}),
        ("eval_loss", "of the average", {"color": "tab:red", "linewidth": 1.8}),
    ):
        known = [row for row in rows if name in row]
        if known:
            steps = [int(row["step"]) for row in known]
            axes.plot(steps, [float(row[name]) for row in known], label=label, **style)


def _bound_losses(axes: "Axes", rows: Sequence[Row]) -> None:
    """Shows the range of the run itself, and not of what the search has tried."""
    names = ("loss", "eval_loss")
    losses = np.array(
        [
            float(row[name])
            for row in rows
            for name in names
            if name in row and (row["phase_name"] not in WILD or name == "eval_loss")
        ]
    )
    losses = losses[np.isfinite(losses)]
    if not losses.size:
        return
    low, high = losses.min(), losses.max()
    if low > 0.0:
        axes.set(yscale="log", ylim=(0.8 * low, 3.0 * high))
    else:
        margin = 0.3 * max(high - low, 1e-6)
        axes.set_ylim(low - margin, high + margin)


def _bound_rates(axes: "Axes", rows: Sequence[Row], base_rate: float) -> None:
    """Does not show the rates of the first updates, which move nothing."""
    rates = [
        base_rate * float(row["lr_scale"])
        for row in rows
        if row["phase_name"] != "calibrate" and float(row["lr_scale"]) > 0.0
    ]
    if rates:
        axes.set_ylim(0.1 * min(rates), 10.0 * max(rates))


def _shade(axes: "Axes", rows: Sequence[Row]) -> None:
    for name, first, last in _spans(rows):
        axes.axvspan(first, last, color=COLORS[name], alpha=0.12, linewidth=0)
    axes.set_xlim(int(rows[0]["step"]), int(rows[-1]["step"]))


def _name_phases(axes: "Axes", rows: Sequence[Row]) -> None:
    """Names each span at its foot, vertically where it is narrow."""
    whole = int(rows[-1]["step"]) - int(rows[0]["step"])
    for name, first, last in _spans(rows):
        share = (last - first) / max(whole, 1)
        if share > 0.02:
            axes.text(
                (first + last) / 2,
                0.03,
                name,
                transform=axes.get_xaxis_transform(),
                color=COLORS[name],
                ha="center",
                va="bottom",
                rotation=0 if share > 0.2 else 90,
            )


def _name_events(axes: "Axes", rows: Sequence[Row], base_rate: float) -> None:
    """Marks rollbacks, and names what changed the learning rate after the search."""
    heights = cycle((-20, -34, -48, -62))  # in points: neighbours do not overlap
    for before, row in zip(rows, rows[1:], strict=False):
        step = int(row["step"])
        if int(row.get("rollbacks", 0)) > int(before.get("rollbacks", 0)):
            axes.axvline(step, color="tab:purple", linestyle=":")
            axes.text(
                step,
                0.97,
                "rollback",
                transform=axes.get_xaxis_transform(),
                color="tab:purple",
                rotation=90,
                ha="right",
                va="top",
            )
        is_named = row["phase_name"] == "maintain"
        if is_named and row["cause_name"] != before["cause_name"]:
            axes.annotate(
                row["cause_name"],
                (step, base_rate * float(row["lr_scale"])),
                xytext=(6, next(heights)),
                textcoords="offset points",
                ha="left",
                fontsize="small",
                arrowprops={"arrowstyle": "-", "color": "gray"},
            )


def _spans(rows: Sequence[Row]) -> list[tuple[str, int, int]]:
    """Name, first step and the step after the last one, of each phase in turn."""
    steps = [int(row["step"]) for row in rows]
    spans, place = [], 0
    for name, members in groupby(rows, key=lambda row: row["phase_name"]):
        end = place + len(list(members))
        spans.append((name, steps[place], steps[min(end, len(steps) - 1)]))
        place = end
    return spans
