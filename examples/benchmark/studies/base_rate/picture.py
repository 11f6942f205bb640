"""docs/base_rate.png: final metric against the base learning rate.

cd examples && python -m benchmark.studies.base_rate.picture
"""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmark import measures, pictures, records, run, summaries

PICTURE = Path(__file__).parents[4] / "docs" / "base_rate.png"
THICK = {"color": "C3", "linewidth": 3, "zorder": 3}
OURS = {
    "autotune": THICK | {"linestyle": ":", "label": "autotune, total_steps given"},
    "autotune_anytime": THICK | {"label": "autotune"},
    "autotune_interpolated_anytime": THICK
    | {"color": "black", "label": "autotune, interpolate=True"},
}
FAMILIES = {  # a colour each, with one of them that stands out
    "schedule": ("static schedules", "tab:gray", "cosine"),
    "control": ("controls with averaging", "tab:green", "constant_averaged"),
    "peer": ("published methods", "tab:blue", "schedule_free_adamw"),
}


def main() -> None:
    """Draws a panel for each task, a line for each method that ran on all of them."""
    results = summaries.gather(records.read(run.RESULTS / "standard.jsonl"))
    tasks, names = summaries.complete(results)
    styles: dict[str, dict[str, Any]] = {}
    for family, (label, color, chosen) in FAMILIES.items():
        members = [name for name in names if summaries.family(name) == family]
        others = [name for name in members if name != chosen]
        if not others or chosen not in members:
            continue  # not run yet
        faint = {"color": color, "alpha": 0.35, "linewidth": 1}
        styles |= {name: dict(faint) for name in members}
        styles[others[0]]["label"] = f"{label}, {len(members)} lines"
        styles[chosen] = {"color": color, "linewidth": 2, "label": chosen}
    styles |= OURS
    figure = Figure(figsize=(13, 6.5), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    for panel, task in zip(panels, tasks, strict=True):
        for name, style in styles.items():
            runs = results[task, "adam", name]
            means = measures.final_test(runs).mean(1)
            panel.plot(runs.rates, means, marker=".", **style)
        facts = results[task, "adam", "cosine"].facts
        if not facts.is_accuracy:
            best = measures.final_test(results[task, "adam", "cosine"]).min()
            panel.set_ylim(0.9 * best, 2.5 * best)
        better = "higher" if facts.is_accuracy else "lower"
        panel.set(xscale="log", title=f"{task}, {facts.unit}: {better} is better")
    panels[4].set_xlabel("base learning rate")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center left", bbox_to_anchor=(1, 0.5))
    pictures.save(figure, PICTURE, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()
