"""Tables of the study: losses over that of the tuned cosine, and the rates chosen.

cd examples && python -m benchmark.studies.beyond_home.report --seeds 0

With ``--autotune benchmark/studies/beyond_home/before.jsonl`` beside autotune as it was
before it warmed up.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark import records
from benchmark.studies.beyond_home.methods import ENTRIES, HELD_OUT, Entry, is_tuned
from benchmark.studies.beyond_home.run import RESULTS, Row, value
from benchmark.studies.beyond_home.tasks import FAMILIES
from benchmark.summaries import Capped
from benchmark.tables import Table, beside, markdown, to_markdown
from benchmark.tasks import DEVELOPMENT

REFERENCES = ("cosine", "cosine, warm-up")  # of which the better is compared with
HELD_OUT_RESULTS = RESULTS.with_name("held_out.jsonl")
BASE_RATE_RESULTS = RESULTS.with_name("base_rates.jsonl")
EDGE = "*"
LARGEST = 1000.0  # a ratio counts as no more, so that a failed run leaves a mean
BOUND = (
    f"A ratio counts as {LARGEST:.0f} at most; in square brackets is the figure "
    "without that bound, where it is another."
)


class Tuned(NamedTuple):
    """An entry at its best rate."""

    rate: float
    losses: np.ndarray  # shape=(seeds,), on validation
    mark: str = ""  # EDGE where no higher, or no lower rate was run


def tuned(rows: list[Row], entry: Entry, seeds: Sequence[int]) -> Tuned | None:
    """At the rate of the lowest mean loss on validation, of those that all seeds have.

    Args:
      rows: Of one task.
      entry: Method and parameters.
      seeds: That count.

    Returns:
      The best, or None where no rate has all seeds. For autotune, the rate is the
      geometric mean of those in force at the end.
    """
    found: dict[float, dict[int, Row]] = {}
    for row in rows:
        if row["method"] == entry.method:
            found.setdefault(row["rate"], {})[row["seed"]] = row
    whole = {
        rate: [by_seed[seed] for seed in seeds]
        for rate, by_seed in found.items()
        if set(seeds) <= set(by_seed)
    }
    if not whole:
        return None
    losses = {
        rate: np.array([value(row, entry) for row in each])
        for rate, each in whole.items()
    }
    rate = min(sorted(losses), key=lambda rate: losses[rate].mean())
    if is_tuned(entry.method):
        is_inside = min(losses) < rate < max(losses)
        return Tuned(rate, losses[rate], "" if is_inside else EDGE)
    ends = np.array([row["found_rate"] for row in whole[rate]], float)
    return Tuned(float(np.exp(np.log(ends).mean())), losses[rate])


def reference(all_tuned: dict[str, Tuned | None]) -> Tuned | None:
    """The tuned cosine, with or without warm-up; None if it was run with neither."""
    both = [all_tuned[name] for name in REFERENCES]
    known = [one for one in both if one is not None]
    return min(known, key=lambda one: one.losses.mean(), default=None)


def ratio(one: Tuned, other: Tuned) -> Capped:
    """Of the losses, the geometric mean over seeds."""
    ratios = one.losses / other.losses
    return mean_ratio([Capped(min(x, LARGEST), x) for x in ratios])


def mean_ratio(ratios: list[Capped]) -> Capped:
    """The geometric mean."""
    return Capped(*np.exp(np.log(ratios).mean(0)))


def ratio_text(found: Capped) -> str:
    """A cell."""
    return beside(*(f"{x:.3f}".replace("inf", "∞") for x in found))


def by_task(
    rows: list[Row], seeds: Sequence[int] | None
) -> dict[str, dict[str, Tuned | None]]:
    """Every entry of every task that has rows, family by family."""
    found = {}
    for members in FAMILIES.values():
        for task in members:
            own = [row for row in rows if row["task"] == task]
            if own:
                chosen = seeds or sorted({row["seed"] for row in own})
                found[task] = {
                    name: tuned(own, entry, chosen) for name, entry in ENTRIES.items()
                }
    return found


def mean_cells(ratios: list[dict[str, Capped]], names: Iterable[str]) -> list[str]:
    """The geometric mean of each entry, over tasks that all have it."""
    return [
        f"**{ratio_text(mean_ratio([task[name] for task in ratios]))}**"
        if ratios and all(name in task for task in ratios)
        else ""
        for name in names
    ]


def tables(rows: list[Row], seeds: Sequence[int] | None = None) -> list[Table]:
    """Of ratios, and of rates; of these seeds, or of all that a task has."""
    found = by_task(rows, seeds)
    ratio_rows, rate_rows = [], []
    for family, members in FAMILIES.items():
        ratios = []
        for task in members:
            cosine = reference(found[task]) if task in found else None
            if task not in found:
                continue
            known = {n: one for n, one in found[task].items() if one is not None}
            rates = [
                f"{known[n].rate:.2g}{known[n].mark}" if n in known else ""
                for n in ENTRIES
            ]
            rate_rows.append([task, *rates])
            if cosine is None:
                continue
            ratios.append({name: ratio(one, cosine) for name, one in known.items()})
            cells = [
                ratio_text(ratios[-1][n]) + known[n].mark if n in known else ""
                for n in ENTRIES
            ]
            tuned_cell = f"{cosine.losses.mean():.4g}{cosine.mark}"
            ratio_rows.append([task, tuned_cell, *cells])
        if ratios:
            title = f"**{family}, {len(ratios)} of {len(members)}**"
            ratio_rows.append([title, "", *mean_cells(ratios, ENTRIES)])
    return [
        Table(
            "Loss over that of the tuned cosine",
            f"{DEVELOPMENT} "
            "Final loss on validation (percent wrong, for an accuracy) over that of "
            "the tuned cosine, with or without warm-up, whichever is better: geometric "
            f"mean over seeds, and over a family. {BOUND} Below 1 is "
            "better. Every schedule is tuned, three rates a decade. A star: not to the "
            "end as yet, its best rate is the lowest or the highest that was run.",
            ["task", "tuned cosine", *ENTRIES],
            ratio_rows,
        ),
        Table(
            "Rates",
            f"{DEVELOPMENT} The tuned peak rates; of autotune the one in force at the "
            "end.",
            ["task", *ENTRIES],
            rate_rows,
        ),
    ]


def shares(rows: list[Row], seeds: Sequence[int] | None = None) -> Table:
    """Of the decrease of the log loss, where noise does not bound it."""
    found = by_task(rows, seeds)
    names = [name for name, entry in ENTRIES.items() if not is_tuned(entry.method)]
    body = []
    for task in FAMILIES["little noise"]:
        cosine = reference(found[task]) if task in found else None
        if cosine is None:
            continue
        first = np.log(next(row["initial"] for row in rows if row["task"] == task))
        whole = first - np.log(cosine.losses).mean()
        cells = []
        for name in names:
            own = found[task][name]
            share = own and (first - np.log(own.losses).mean()) / whole
            cells.append("" if share is None else f"{share:.3f}")
        body.append([task, *cells])
    return Table(
        "Share of the decrease of the log loss",
        f"{DEVELOPMENT} From the first parameters to the end, over that of the tuned "
        "cosine; of the geometric means over seeds.",
        ["task", *names],
        body,
    )


def held_out(rows: list[Row]) -> str:
    """The table of the page: seeds that did not tune, each at the rate of those."""
    names = [name for name in HELD_OUT if name not in REFERENCES]
    found = by_task(rows, None)
    body = []
    for family, members in FAMILIES.items():
        ratios = []
        for task in members:
            known = {n: x for n, x in found.get(task, {}).items() if x is not None}
            cosine = reference(found[task]) if task in found else None
            if cosine is None or not known.keys() & set(names):
                continue
            ratios.append({n: ratio(known[n], cosine) for n in names if n in known})
            steps = next(row["steps"] for row in rows if row["task"] == task)
            loss = f"{cosine.losses.mean():.4g}"
            seeds = str(len(cosine.losses))
            cells = [ratio_text(ratios[-1][n]) if n in known else "" for n in names]
            body.append([task, seeds, f"{steps:,}", loss, *cells])
        if len(ratios) > 1:
            title = f"**{family}, {len(ratios)} tasks**"
            body.append([title, "", "", "", *mean_cells(ratios, names)])
    header = ["task", "seeds", "steps", "tuned cosine", *names]
    caption = (
        f"{DEVELOPMENT} Final loss on validation (percent wrong on *noisy*) over that "
        "of the tuned cosine, with or without warm-up: geometric mean over seeds, and "
        f"over a family. {BOUND}"
    )
    return f"{caption}\n\n{markdown(header, body)}"


def base_rates(rows: list[Row], usual: list[Row]) -> str:
    """The table of the page: from other base rates, over ``usual``, from 1e-3."""
    there = {row["method"] for row in rows}
    names = [name for name, entry in ENTRIES.items() if entry.method in there]
    rates = sorted({row["rate"] for row in rows})
    body = []
    for task in dict.fromkeys(row["task"] for row in rows):
        before = [row for row in usual if row["task"] == task]
        cells = [task]
        for name in names:
            for rate in rates:
                mine = [r for r in rows if (r["task"], r["rate"]) == (task, rate)]
                seeds = sorted({row["seed"] for row in mine})
                one = tuned(mine, ENTRIES[name], seeds)
                other = tuned(before, ENTRIES[name], seeds)
                cells.append(ratio_text(ratio(one, other)) if one and other else "")
        body.append(cells)
    header = ["task", *(f"{name}, {rate:g}" for name in names for rate in rates)]
    caption = (
        f"{DEVELOPMENT} Final loss on validation from another base learning rate, over "
        f"that from 0.001: geometric mean over seeds. {BOUND}"
    )
    return f"{caption}\n\n{markdown(header, body)}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--autotune", type=Path, help="its rows, in place of those")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: all of a task")
    flags = parser.parse_args()
    rows = records.rows(flags.results)
    if flags.autotune:
        rows = [row for row in rows if is_tuned(row["method"])]
        rows += records.rows(flags.autotune)
    found = [*tables(rows, flags.seeds), shares(rows, flags.seeds)]
    print("\n".join(to_markdown(table) for table in found))


if __name__ == "__main__":
    main()
