"""The tables of the report, from measures of runs."""

from typing import Any, NamedTuple

import numpy as np

from benchmark import measures, summaries
from benchmark.measures import Results, Runs
from benchmark.summaries import Capped
from benchmark.tasks import DEVELOPMENT

CAPPED = (
    "A run that ends worse than it began counts as one that never moved; in square "
    "brackets is the figure without that bound, where it is another (∞: a run did not "
    "end finite)."
)


class Table(NamedTuple):
    """Cells are text; the first column names the row."""

    title: str
    caption: str
    header: list[str]
    rows: list[list[str]]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table without title and caption."""
    lines = (header, ["---"] * len(header), *rows)
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def to_markdown(table: Table, level: int = 2) -> str:
    """A heading, the caption and the table; without the heading at level 0."""
    lines = [f"{'#' * level} {table.title}", ""] if level else []
    lines += [table.caption, ""] if table.caption else []
    return "\n".join([*lines, markdown(table.header, table.rows)])


def signed(value: float, digits: int) -> str:
    """A difference; a far too large one with an exponent."""
    if np.isinf(value):
        return "-∞" if value < 0 else "+∞"
    return f"{value:+.{digits}f}" if abs(value) < 1e5 else f"{value:+.1e}"


def unsigned(value: float) -> str:
    """A metric, to four digits."""
    return f"{value:#.4g}".replace("inf", "∞")


def beside(capped: str, uncapped: str) -> str:
    """A figure, and in square brackets what it is without a bound, if another."""
    return capped if capped == uncapped else f"{capped} [{uncapped}]"


def signed_beside(found: Capped, digits: int) -> str:
    """A difference, and beside it the same without its bound."""
    return beside(*(signed(value, digits) for value in found))


def headline(results: Results) -> Table:
    """One line a method."""
    rows = []
    for row in summaries.summaries(results):
        mean, low, high = row.tuned
        tuned = beside(signed(mean, 2), signed(row.tuned_uncapped, 2))
        rows.append(
            [
                f"`{row.method}`",
                summaries.family(row.method),
                f"{tuned} ({signed(low, 2)}, {signed(high, 2)})",
                signed_beside(row.median, 1),
                signed_beside(row.worst, 1),
                show_time(row.time, row.missed, row.times),
                f"{row.score:.2f}",
                f"{row.score_any_rate:.2f}",
                signed_beside(row.sensitivity, 0).replace("+", ""),
                f"{row.failed} + {row.stuck} of {row.runs}",
            ]
        )
    return Table(
        "All methods",
        f"{DEVELOPMENT} "
        "Gains on test over the tuned cosine, in percent of what that improves from "
        "the start (-100 is no progress): of the tuned rate (with its 95% interval "
        "over seeds, for these tasks), and of the median and the worst of tasks and "
        f"base learning rates. {CAPPED} "
        "Time to target is a fraction of the run, at the tuned rate. "
        "Score: the share of tasks within a "
        "factor of the fastest, over factors from 1 to 4 (1 is best), at the tuned "
        "rate and over all rates. Sensitivity: what is lost of the progress, in the "
        "mean of base learning rates. Failed runs did not end finite, stuck ones no "
        "better than they began. `_anytime`: without `total_steps`. `_interpolated`: "
        "with `interpolate=True`, and an optimizer without momentum.",
        [
            *("method", "kind", "tuned", "median rate", "worst rate", "time to target"),
            *("score", "score, any rate", "sensitivity, %", "failed + stuck"),
        ],
        rows,
    )


def show_time(time: float, missed: int, times: int) -> str:
    """A geometric mean, or how many missed."""
    return f"{time:.2f}" if not missed else f"∞ ({missed} of {times} missed)"


def by_task(results: Results, title: str, caption: str, cell: Any) -> Table:
    """One line a method, one column a task; ``cell`` is of runs and cosine."""
    tasks, names = summaries.complete(results)
    cosines = summaries.of_method(results, "adam", "cosine")
    units = [f"{task}, {cosines[task].facts.unit}" for task in tasks]
    rows = [
        [f"`{name}`"]
        + [cell(results[task, "adam", name], cosines[task]) for task in tasks]
        for name in names
    ]
    return Table(title, f"{DEVELOPMENT} {caption}", ["method", *units], rows)


def final_cell(runs: Runs, cosine: Runs) -> str:
    """Mean, standard deviation over seeds, and rate."""
    best = measures.tuned(runs)
    test = measures.final_test(runs)[best]
    uncapped = measures.final_test(runs, measures.uncapped)[best].mean()
    mean = beside(unsigned(test.mean()), unsigned(uncapped))
    return f"{mean} ± {measures.standard_deviation(test):.2g} ({runs.rates[best]:.1e})"


def rate_cell(runs: Runs, choose: Any) -> str:
    """The test metric at the ``choose``-n of the decades."""
    chosen = [
        choose(measures.final_test(runs, bound)[summaries.is_decade(runs)].mean(1))
        for bound in summaries.BOUNDS
    ]
    return beside(*map(unsigned, chosen))


def worst_cell(runs: Runs, cosine: Runs) -> str:
    """At the worst base learning rate."""
    return rate_cell(runs, np.min if runs.facts.is_accuracy else np.max)


def median_cell(runs: Runs, cosine: Runs) -> str:
    """At the median base learning rate."""
    return rate_cell(runs, np.median)


def speed_cell(runs: Runs, cosine: Runs) -> str:
    """Median steps and epochs to the target at the tuned rate."""
    time = float(np.median(summaries.all_times(runs, cosine)[measures.tuned(runs)]))
    steps = time * runs.facts.steps
    return f"{steps:.0f} ({steps / runs.facts.steps_per_epoch:.1f})".replace(
        "inf (inf)", "∞"
    )


def gap_cell(runs: Runs, cosine: Runs) -> str:
    """Validation less training."""
    values = measures.gap(runs)[measures.tuned(runs)]
    return f"{values.mean():.3g}"


def stability_cell(runs: Runs, cosine: Runs) -> str:
    """Standard deviations: late ones of loss and metric; of test metrics over seeds."""
    best = measures.tuned(runs)
    late = runs.validation.shape[-1] // 10
    metric = runs.validation[best, :, -late:].std(-1).mean()
    loss, seeds = runs.late_loss_std[best].mean(), measures.final_test(runs)[best]
    return f"{loss:.2g} / {metric:.2g} / {measures.standard_deviation(seeds):.2g}"


def details(results: Results) -> list[Table]:
    """All tables by task."""
    wanted = [
        (
            "Final performance",
            "Test metric at the tuned base rate: mean ± standard deviation over seeds "
            f"(rate). {CAPPED}",
            final_cell,
        ),
        (
            "Worst base rate",
            "Test metric at the worst base rate of the grid, which spans 1e-7 to 10. "
            f"{CAPPED}",
            worst_cell,
        ),
        (
            "Median base rate",
            f"Test metric at the median base learning rate. {CAPPED}",
            median_cell,
        ),
        (
            "Convergence speed",
            "Steps (epochs) until the target, median over seeds, at the tuned rate. "
            "Targets: " + ", ".join(targets(results)) + ".",
            speed_cell,
        ),
        (
            "Generalisation",
            "How much worse the metric is on validation than on training data.",
            gap_cell,
        ),
        (
            "Stability",
            "Standard deviation of training losses / of the validation metric, over "
            "the last tenth; / of the test metric over seeds. At the tuned rate.",
            stability_cell,
        ),
    ]
    return [by_task(results, *args) for args in wanted]


def targets(results: Results) -> list[str]:
    """Each task's, in words."""
    cosines = summaries.of_method(results, "adam", "cosine")
    return [
        f"{task} {measures.target(runs):.4g} {runs.facts.unit}"
        for task, runs in cosines.items()
    ]
