"""The tables of the experiment: a line an entry, and what each measure looks like."""

from collections.abc import Callable

import numpy as np

from benchmark import measures as statistics
from benchmark.tables import Table, markdown
from experiment import measures
from experiment import plan as plans
from experiment.measures import Outcome
from experiment.plan import Plan, Row, Task

MISSING = "–"
Outcomes = dict[str, dict[str, Outcome]]

TITLES = {
    "mlp": "MLP, digits",
    "electricity": "LSTM, electricity",
    "lstm": "LSTM, IMDB",
    "transformer": "transformer, IMDB",
    "transformer_finetuned": "transformer, pretrained",
    "resnet18": "ResNet-18, CIFAR-100",
    "vgg16": "VGG-16, CIFAR-10",
}
AS_GIVEN = ("fixed", "step", "cosine")
TUNED = ("fixed_tuned", "step_tuned", "cosine_tuned")
RULES = ("plateau", "trend", "greedy")
LEARNERS = ("cosine+bandit", "cosine+q_learning", "cosine+actor_critic")
# Rows of the table of differences: an entry, and what it is compared with.
PAIRS = (
    *((f"autotune{form}", "cosine_tuned") for form in ("", "_anytime")),
    *((f"autotune_interpolated{form}", "cosine_tuned") for form in ("", "_anytime")),
    ("constant_averaged", "cosine_tuned"),
    ("autotune_anytime", "constant_averaged"),
    ("autotune_anytime", "cosine"),
    ("autotune_anytime", "fixed"),
    ("learned", "autotune"),
    *((learner, "cosine") for learner in LEARNERS),
)
# Rows of README: a label and the entries of which the best is shown, and by what.
# Where the best favours what autotune is compared with, it is that on test.
HEADLINE = (
    ("fixed 0.001", ("fixed",), "test"),
    ("step decay from 0.01, ÷10 four times", ("step",), "test"),
    ("cosine from 0.01", ("cosine",), "test"),
    ("best tuned schedule", TUNED, "test"),
    ("constant, averaged, tuned", ("constant_averaged",), "test"),
    ("best rule or online learner", RULES + LEARNERS, "validation"),
    ("`learned`", ("learned",), "test"),
    ("`autotune(adam)`", ("autotune_anytime",), "test"),
    ("`autotune(adam, total_steps=N)`", ("autotune",), "test"),
    (
        "`autotune(adam(b1=0), interpolate=True)`",
        ("autotune_interpolated_anytime",),
        "test",
    ),
)


def unit(task: Task) -> str:
    """Of the metric, as the tables show it."""
    if task.is_accuracy:
        return "% correct"
    return "kW" if task.flags.get("dataset") == "ld2011_2014" else "MW"


def title(plan: Plan, name: str) -> str:
    """Of a task."""
    return TITLES[name] + (" §" if plan.tasks[name].is_seen else "")


def column_title(plan: Plan, name: str) -> str:
    """With the unit; percent correct goes without saying."""
    task = plan.tasks[name]
    return title(plan, name) + ("" if task.is_accuracy else f", {unit(task)}")


def with_error(values: np.ndarray) -> str:
    """Mean and standard error over seeds; of one seed the value alone."""
    text = f"{values.mean():#.4g}"
    if len(values) < 2:
        return text
    error = values.std(ddof=1) / np.sqrt(len(values))
    # Of equal values it is what rounding leaves.
    return f"{text} ± {error if error > 1e-6 * abs(values.mean()) else 0:.2g}"


def gain_cell(gain: np.ndarray) -> str:
    """Mean and 95% interval; of one seed the difference alone."""
    return statistics.interval(gain) if len(gain) > 1 else f"{gain[0]:+.2f}"


def epochs_cell(epochs: np.ndarray) -> str:
    """Median, and how many runs never reached the threshold."""
    missed = int(np.isinf(epochs).sum())
    median = f"{np.median(epochs):.3g}".replace("inf", "∞")
    return f"{median} ({missed} missed)" if missed else median


def cell(found: Outcome, name: str, show: Callable[[np.ndarray], str]) -> str:
    """A measure in words, or why there is none."""
    values = getattr(found, name)
    if found.failed:
        return "failed"
    return show(values) if values.size else MISSING


def rate_cell(plan: Plan, name: str, found: Outcome) -> str:
    """The learning rate, and whether it is tuned."""
    if plan.entries[name].rate is not None:
        return f"{found.rate:g}"
    return MISSING if found.rate is None else f"{found.rate:g}, tuned"


def task_table(plan: Plan, name: str, by_entry: dict[str, Outcome]) -> Table:
    """One line an entry, with all measures."""
    task = plan.tasks[name]
    rows = [
        [
            f"`{entry}`",
            rate_cell(plan, entry, found),
            cell(found, "test", with_error),
            cell(found, "gain", gain_cell),
            cell(found, "epochs", epochs_cell),
            cell(found, "gap", lambda x: f"{x.mean():.3g}"),
            cell(found, "variability", lambda x: f"{x.mean():.2g}"),
            f"{len(found.rows)} of {len(plan.seeds)}",
            str(found.failed) if found.rows else MISSING,
        ]
        for entry, found in by_entry.items()
    ]
    threshold = measures.threshold(task, by_entry[measures.REFERENCE].rows)
    target = MISSING if threshold is None else f"{threshold:.4g} {unit(task)}"
    header = ["entry", "learning rate", f"test, {unit(task)}", "gain (95% interval)"]
    header += ["epochs to threshold", "gap", "variability", "seeds", "failed"]
    return Table(title(plan, name), f"Threshold on validation: {target}.", header, rows)


def baseline(rows: list[Row], task: str) -> float | None:
    """The test metric without a network, if the task has one that is made."""
    for row in rows:
        if (row["task"], row["method"]) == (task, plans.BASELINE):
            return row.get("test")
    return None


def overall_column(
    plan: Plan, name: str, by_entry: dict[str, Outcome]
) -> dict[str, str]:
    """The cells of a task, by entry: of those that have all seeds."""
    whole = {e: o for e, o in by_entry.items() if len(o.rows) == len(plan.seeds)}
    cells = dict.fromkeys(plan.entries, MISSING)
    cells |= {entry: cell(found, "test", with_error) for entry, found in whole.items()}
    for names, mark in ((AS_GIVEN, " †"), (TUNED, " ‡")):
        best = measures.best(plan.tasks[name], whole, names, "test")
        # The best of a part of them may not be that of all.
        if best and set(names) & set(plan.entries) <= set(whole):
            cells[best] += mark
    return cells


def overall(plan: Plan, rows: list[Row], found: Outcomes) -> Table:
    """One line an entry, one column a task: the test metric of all seeds."""
    shown = [name for name in plan.tasks if any(o.rows for o in found[name].values())]
    columns = [overall_column(plan, name, found[name]) for name in shown]
    lines = [
        [f"`{entry}`", *(column[entry] for column in columns)] for entry in plan.entries
    ]
    without = {name: baseline(rows, name) for name in shown}
    cells = [f"{x:#.4g}" if x is not None else "" for x in without.values()]
    lines.append(["no network", *cells])
    titles = [column_title(plan, name) for name in shown]
    caption = (
        f"{plans.TEST} "
        "Final test metric in percent correct, or the absolute error in MW: mean ± "
        f"standard error of {len(plan.seeds)} seeds. † The best static schedule as the "
        "experiment has it, ‡ the best tuned one, both on test. *No network*: logistic "
        "regression on word counts of whole reviews, fitted with those of validation "
        "too, or the week before repeated."
    )
    return Table("All tasks", caption, ["entry", *titles], lines)


def counted(differences: list[np.ndarray]) -> str:
    """On how many tasks an entry is better and worse, and on how many beyond doubt.

    Args:
      differences: Of each task, one a seed; above 0 the entry is better.
    """
    means = [x.mean() for x in differences]
    text = f"{sum(m > 0 for m in means)} : {sum(m < 0 for m in means)}"
    bounds = [statistics.mean_interval([x]) for x in differences if len(x) > 1]
    better, worse = sum(b[1] > 0 for b in bounds), sum(b[2] < 0 for b in bounds)
    return text if better == worse == 0 else f"{text} ({better} : {worse})"


def all_measures(plan: Plan, found: Outcomes) -> Table:
    """One line an entry, one column a measure: on how many tasks it is better."""
    tasks = [name for name in found if measures.is_complete(plan, found[name])]
    lines = []
    for entry in plan.entries:
        pairs = [(found[t][entry], found[t][measures.REFERENCE]) for t in tasks]
        pairs = [pair for pair in pairs if not any(one.failed for one in pair)]
        medians = [(np.median(a.epochs), np.median(b.epochs)) for a, b in pairs]
        sooner = sum(own < other for own, other in medians)
        later = sum(own > other for own, other in medians)
        cells = [
            counted([own.gain for own, _ in pairs]),
            f"{sooner} : {later}",
            counted([other.gap - own.gap for own, other in pairs]),
            counted([other.variability - own.variability for own, other in pairs]),
        ]
        lines.append([f"`{entry}`", *cells])
    caption = (
        f"On how many of {len(tasks)} tasks an entry is better : worse than the tuned "
        "cosine, by the mean over seeds (epochs: by the median); in brackets, on how "
        "many the 95% interval of the differences excludes 0, as about one in twenty "
        "does by chance. What is equal counts for neither."
    )
    header = ["entry", "test metric", "epochs to threshold", "gap", "variability"]
    return Table("All measures", caption, header, lines)


def differences(plan: Plan, found: Outcomes) -> Table:
    """One line a pair of entries, one column a task that has both."""
    tasks = [name for name in found if measures.is_complete(plan, found[name])]
    lines = []
    for entry, other in PAIRS:
        if not {entry, other} <= set(plan.entries):
            continue
        gains = [(found[task][entry].gain, found[task][other].gain) for task in tasks]
        # There is none where one of them, or the tuned cosine, has a failed run.
        cells = [gain_cell(a - b) if a.size and b.size else MISSING for a, b in gains]
        lines.append([f"`{entry}` to `{other}`", *cells])
    caption = (
        "By how much the first is better than the second on test, in the same units, "
        "with the 95% interval by Student's t over the seeds, in pairs; below 0 it is "
        "worse."
    )
    titles = [column_title(plan, name) for name in tasks]
    return Table("Differences", caption, ["entries", *titles], lines)


def progress(plan: Plan, found: Outcomes) -> str:
    """How many of the results are there, in a sentence."""
    counts = [measures.made(plan, by_entry) for by_entry in found.values()]
    there, wanted = (sum(column) for column in zip(*counts, strict=True))
    size = (
        f"{len(plan.tasks)} tasks, {len(plan.entries)} entries, {len(plan.seeds)} seeds"
    )
    if there == wanted:
        return f"All {wanted} results are there ({size})."
    rest = {True: [], False: []}  # by whether there is anything
    for (count, all_of_it), name in zip(counts, plan.tasks, strict=True):
        if count < all_of_it:
            rest[count > 0].append(TITLES[name])
    parts = [f"**{there} of {wanted} results are there** ({size})"]
    parts += [f"in part: {'; '.join(rest[True])}"] if rest[True] else []
    parts += [f"not at all: {'; '.join(rest[False])}"] if rest[False] else []
    return "; ".join(parts) + "."


def headline(plan: Plan, found: Outcomes) -> str:
    """For README: the tasks that are complete, ten rows, or a sentence."""
    tasks = [name for name in found if measures.is_complete(plan, found[name])]
    if not tasks:
        return (
            "Every method on networks of the usual kinds: "
            "[the experiment](docs/experiment.md) is being run (`make experiment`).\n"
        )
    lines = []
    for label, names, by in HEADLINE:
        line = [label]
        for task in tasks:
            best = measures.best(plan.tasks[task], found[task], names, by)
            text = "failed" if best is None else with_error(found[task][best].test)
            # A schedule or rule, by the name that it has elsewhere.
            name = f" ({best.removesuffix('_tuned')})" if best else ""
            line.append(text + name * (len(names) > 1))
        lines.append(line)
    part = f"; {len(tasks)} of {len(found)} tasks are complete"
    caption = (
        "Networks of the usual kinds, sized for two CPU cores and "
        "trained with Adam ([the experiment](docs/experiment.md)"
        f"{part * (len(tasks) < len(found))}). Test metric: percent correct, or error "
        "in megawatts (lower is better); mean ± standard error of "
        f"{len(plan.seeds)} seeds. *Best tuned schedule*: best of three on test. *Best "
        f"rule or online learner*: best of six on validation. {plans.TEST}\n\n"
    )
    titles = [column_title(plan, name) for name in tasks]
    return caption + markdown(["method", *titles], lines)


def set_up(plan: Plan) -> str:
    """What is run, and what it would be at full size."""
    lines = []
    for name, task in plan.tasks.items():
        flags = [f"--{k.replace('_', '-')} {v}" for k, v in task.flags.items()]
        command = " ".join([f"{task.script}.py", *flags])
        lines.append([title(plan, name), f"`{command}`", task.full_size])
    return markdown(["task", "script and flags", "at full size"], lines)
