"""The page: its charts and its frame. It needs no other file."""

from collections.abc import Callable
from pathlib import Path
from string import Template

import numpy as np

from benchmark import charts, measures, summaries
from benchmark.measures import Results, Runs

TEMPLATE = Path(__file__).with_name("page.html")
FAMILIES = {
    "schedule": "Static schedules",
    "control": "Controls: schedules with averaging",
    "peer": "Published methods",
    "rule": "Rules of this library",
    "learner": "Learners",
    "ablation": "Ablations",
}
# In every chart, to compare with.
REFERENCES = {
    "cosine": 'stroke="#000" style="stroke-width: 2"',
    "autotune": 'stroke="#d00000" style="stroke-width: 2.6"',
    "autotune_anytime": 'stroke="#d00000" style="stroke-width: 2" '
    'stroke-dasharray="5 3"',
    "autotune_interpolated": 'stroke="#0050d0" style="stroke-width: 2.6"',
    "autotune_interpolated_anytime": 'stroke="#0050d0" style="stroke-width: 2" '
    'stroke-dasharray="5 3"',
}
Curve = Callable[[Runs], tuple[np.ndarray, np.ndarray]]


def by_rate(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """The final test metric against the base rate."""
    return runs.rates, measures.final_test(runs).mean(1)


def steps_of(runs: Runs) -> np.ndarray:
    """The step of each checkpoint."""
    checkpoints = runs.validation.shape[-1]
    return np.arange(1, checkpoints + 1) * runs.facts.steps / checkpoints


def learning(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """The validation metric against the step, at the tuned rate."""
    best = measures.tuned(runs)
    return steps_of(runs), runs.validation[best].mean(0)


def learning_rate(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """The nominal rate against the step, at the tuned rate, of the first seed."""
    return steps_of(runs), runs.learning_rate[measures.tuned(runs), 0]


def lines_of(
    names: list[str], curve: Callable[[str], tuple[np.ndarray, np.ndarray]]
) -> list[charts.Line]:
    """A line for each name; the references last, on top."""
    members = [name for name in names if name not in REFERENCES]
    styles = {name: charts.style(i) for i, name in enumerate(members)} | REFERENCES
    ordered = [*members, *(name for name in REFERENCES if name in names)]
    return [charts.Line(name, *curve(name), styles[name]) for name in ordered]


def late_range(results: Results, task: str) -> tuple[float, float]:
    """The better third of what lies between the start and the best at the end."""
    every = [runs for (t, o, _), runs in results.items() if (t, o) == (task, "adam")]
    is_accuracy = every[0].facts.is_accuracy
    finals = np.concatenate([measures.final_validation(runs).mean(1) for runs in every])
    best = finals.max() if is_accuracy else finals.min()
    start = every[0].initial.mean()
    low, high = sorted((best + 0.03 * (best - start), best + 0.35 * (start - best)))
    return float(low), float(high)


def section(
    results: Results,
    title: str,
    curve: Curve,
    x_label: str,
    is_log: tuple[bool, bool] = (False, False),
    is_late: bool = False,
) -> str:
    """One panel a task for each family of methods."""
    tasks, names = summaries.complete(results)
    parts = [f"<h2>{title}</h2>"]
    for family, heading in FAMILIES.items():
        members = [name for name in names if summaries.family(name) == family]
        if not members:
            continue
        shown = [name for name in names if name in REFERENCES or name in members]
        panels = []
        for task in tasks:
            lines = lines_of(shown, lambda m, t=task: curve(results[t, "adam", m]))
            panels.append((task, lines))
        body = "".join(
            charts.chart(
                f"{task}, {results[task, 'adam', 'cosine'].facts.unit}",
                lines,
                x_label,
                is_log,
                late_range(results, task) if is_late else None,
            )
            for task, lines in panels
        )
        legend = charts.legend(panels[0][1])
        parts.append(f'<h3>{heading}</h3>{legend}<div class="panels">{body}</div>')
    return "".join(parts)


def profiles(results: Results) -> str:
    """Performance profiles of the tuned rates, and of all decades."""
    tasks, names = summaries.complete(results)
    cosines = summaries.of_method(results, "adam", "cosine")
    taus = np.linspace(1.0, 4.0, 61)
    times = {"tuned base rate": [], "any base rate": []}
    for name in names:
        mine = summaries.of_method(results, "adam", name)
        each = [np.median(summaries.all_times(mine[t], cosines[t]), 1) for t in tasks]
        best = [
            time[measures.tuned(mine[t])] for time, t in zip(each, tasks, strict=True)
        ]
        times["tuned base rate"].append(np.array(best))
        times["any base rate"].append(np.concatenate(each))
    shares = {
        title: dict(zip(names, measures.profile(np.array(t), taus), strict=True))
        for title, t in times.items()
    }
    parts = [
        "<h2>Performance profile</h2><p>Share of tasks (of tasks and base rates) in "
        "which a method reaches the target within a factor of the fastest time.</p>"
    ]
    for family, heading in FAMILIES.items():
        members = [name for name in names if summaries.family(name) == family]
        if not members:
            continue
        shown = [name for name in names if name in REFERENCES or name in members]
        panels = {
            title: lines_of(shown, lambda n, s=share: (taus, s[n]))
            for title, share in shares.items()
        }
        body = "".join(
            charts.chart(title, lines, "factor of the fastest time")
            for title, lines in panels.items()
        )
        legend = charts.legend(panels["tuned base rate"])
        parts.append(f'<h3>{heading}</h3>{legend}<div class="panels">{body}</div>')
    return "".join(parts)


def charts_of(results: Results) -> str:
    """All sections with charts."""
    return "".join(
        [
            section(
                results,
                "Test metric against base learning rate",
                by_rate,
                "base learning rate",
                (True, False),
            ),
            section(
                results,
                "Learning curves of the tuned rates",
                learning,
                "step",
                is_late=True,
            ),
            section(
                results,
                "Learning rates of the tuned runs",
                learning_rate,
                "step",
                (False, True),
            ),
            profiles(results),
        ]
    )


def render(**parts: str) -> str:
    """The page from its parts."""
    return Template(TEMPLATE.read_text()).substitute(parts)
