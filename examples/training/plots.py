"""The picture of a run: loss, metric and learning rate over the steps."""

from pathlib import Path

from training import logs


def plot_run(log: Path, metric: str, out: Path) -> None:
    """Draws the events of ``metrics.jsonl`` into a PNG."""
    from matplotlib.figure import Figure

    events = logs.read(log)
    figure = Figure(figsize=(8, 8), layout="constrained")
    names = ("loss", metric, "learning_rate")
    for axes, name in zip(figure.subplots(3, 1, sharex=True), names, strict=True):
        for kind in ("train", "validation"):
            points = [
                (event["step"], float(event[name]))
                for event in events
                if event["event"] == kind and name in event
            ]
            if points:
                axes.plot(*zip(*points, strict=True), label=kind)
        axes.set_ylabel(name.replace("_", " "))
        axes.grid(alpha=0.3)
        if name == "learning_rate":
            axes.set_yscale("log")
            axes.set_xlabel("step")
        else:
            axes.legend()
    figure.savefig(out)
