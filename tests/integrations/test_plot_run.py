"""plot_run: what the picture shows is what the log says."""

import matplotlib.figure
import numpy as np
import pytest

from optax_adaptive.integrations import plot_run
from optax_adaptive.transforms import in_words

HALVED = in_words.CAUSES.index("halved after a blow-up")


def row(step, phase, cause, loss=1.0, lr_scale=1.0, **other):
    numbers = {"step": step, "phase": phase, "cause": cause, "loss": loss}
    return numbers | {"lr_scale": lr_scale, "rollbacks": 0} | other


def whole_run():
    """Ten steps of each phase, and a rollback with a lower rate in the last one."""
    log = [row(step, 0, in_words.TRIED) for step in range(10)]
    log += [row(step, 1, in_words.TRIED, loss=1e9) for step in range(10, 20)]
    log += [row(step, 2, in_words.TRIED, loss=1e3) for step in range(20, 30)]
    log += [row(step, 3, in_words.RISING) for step in range(30, 40)]
    log += [row(step, 3, in_words.FOUND, 0.5, eval_loss=0.1) for step in range(40, 60)]
    for step in range(60, 80):
        log.append(row(step, 3, HALVED, 0.5, 0.5, rollbacks=1))
    return log


def texts(axes):
    return {text.get_text(): text.get_position()[0] for text in axes.texts}


def test_phases_are_named_where_they_lie():
    figure = plot_run(whole_run(), base_rate=1e-3)
    assert isinstance(figure, matplotlib.figure.Figure)
    losses_of_search, rates_of_search, losses, rates = (
        figure.axes[place] for place in (0, 2, 1, 3)
    )
    assert texts(losses) == {
        "calibrate": 5.0,
        "range test": 15.0,
        "trial": 25.0,
        "warm-up": 35.0,
        "maintain": 59.5,
    }
    assert losses_of_search.get_xlim() == (0, 39)
    assert "maintain" not in texts(losses_of_search)
    assert {"rollback", in_words.CAUSES[HALVED]} <= set(texts(rates))
    assert not texts(rates_of_search)


def test_lines_are_those_of_the_log():
    figure = plot_run(whole_run(), base_rate=1e-3)
    losses, rates = figure.axes[1], figure.axes[3]
    batch, average = losses.lines[:2]
    assert len(batch.get_xdata()) == 80
    np.testing.assert_allclose(average.get_xdata(), np.arange(40, 60))
    np.testing.assert_allclose(rates.lines[0].get_ydata()[[0, -1]], [1e-3, 5e-4])
    # What the search has tried does not squeeze the rest.
    assert losses.get_ylim()[1] < 1e2


@pytest.mark.parametrize("loss", [-1.0, np.nan, 0.0])
def test_any_loss_is_drawn(loss):
    log = [row(step, 3, in_words.RULE, loss) for step in range(3)]
    figure = plot_run(log)
    assert len(figure.axes) == 2
    assert "rule" in texts(figure.axes[0])
    figure.canvas.draw()


def test_logs_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="at least two rows to draw, but it has 1"):
        plot_run(whole_run()[:1])
    bad = whole_run()
    del bad[3]["cause"]
    with pytest.raises(ValueError, match=r"row 3 of the log must have \['cause'\]"):
        plot_run(bad)
