"""The picture of docs/autotune.md: final metric against the base learning rate.

cd examples && python -m benchmark.picture
"""

from pathlib import Path

from matplotlib.figure import Figure

from benchmark import measures, report, run, summaries

PICTURE = Path(__file__).parents[2] / "docs" / "autotune.png"
OURS = {
    "autotune": "C3",
    "autotune_anytime": "C1",
    "autotune_interpolated_anytime": "black",
}


def main() -> None:
    """Draws one panel a task, one line a method that ran on all of them."""
    results = measures.gather(run.read(report.RESULTS / "standard.jsonl"))
    tasks, names = summaries.complete(results)
    families = ("schedule", "peer")
    others = [name for name in names if summaries.family(name) in families]
    figure = Figure(figsize=(13, 6.5), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    for panel, task in zip(panels, tasks, strict=True):
        for index, name in enumerate([*others, *OURS]):
            runs = results[task, "adam", name]
            means = measures.final_test(runs).mean(1)
            style = {"alpha": 0.6, "linestyle": ("-", "--", ":")[index // 8 % 3]}
            if name in OURS:
                style = {"color": OURS[name], "linewidth": 3, "zorder": 3}
            panel.plot(runs.rates, means, marker=".", label=name, **style)
        facts = results[task, "adam", "cosine"].facts
        if not facts.is_accuracy:
            best = measures.final_test(results[task, "adam", "cosine"]).min()
            panel.set_ylim(0.9 * best, 2.5 * best)
        panel.set(xscale="log", title=f"{task}, {facts.unit}")
    panels[4].set_xlabel("base learning rate")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(PICTURE, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()
