"""The table of README.md, from runs that were made.

  python examples/table.py add mlp_mnist RUN "what it shows"   # RUN: its --workdir
  python examples/table.py write

`add` takes command, metric, time and device from the log that a run left and appends
them to results.jsonl; `write` puts the table into README.md.
"""

import argparse
import dataclasses
import importlib
import json
from pathlib import Path

from benchmark.tables import markdown
from training import logs

HERE = Path(__file__).parent
RESULTS, README = HERE / "results.jsonl", HERE / "README.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def summarise(script: str, workdir: Path, shows: str) -> dict[str, str]:
    """One row, read from the log of an uninterrupted run."""
    events = logs.read(workdir / "metrics.jsonl")
    start, test = events[0], events[-1]
    if test["event"] != "test" or any(e["event"] == "resume" for e in events):
        raise SystemExit(f"{workdir} holds no run that went from start to end at once")
    config_type = importlib.import_module(script).Config
    options = []
    for field in dataclasses.fields(config_type):
        value = start["config"].get(field.name, field.default)
        if field.name == "method" or value != field.default:
            options.append(f"--{field.name.replace('_', '-')} {value}")
    other = ("event", "step", "seconds", "loss")
    metrics = [name for name in test if name not in other]
    count, kind = start["devices"]
    return {
        "command": " ".join([f"{script}.py", *options]),
        "shows": shows,
        "metric": ", ".join(f"test {n} {test[n]:.4g}" for n in metrics),
        "minutes": f"{test['seconds'] / 60:.1f}",
        "device": f"{count} x {kind}",
    }


def table() -> str:
    """The rows of results.jsonl in Markdown."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    return markdown(
        ["command", "shows", "measured", "minutes", "device"],
        [[f"`{row['command']}`", *list(row.values())[1:]] for row in rows],
    )


def main(args: list[str] | None = None) -> None:
    """Adds a run, or writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    add = commands.add_parser("add", help="a run to results.jsonl")
    add.add_argument("script")
    add.add_argument("workdir", type=Path)
    add.add_argument("shows")
    commands.add_parser("write", help="the table into README.md")
    chosen = parser.parse_args(args)
    if chosen.what == "add":
        row = summarise(chosen.script, chosen.workdir, chosen.shows)
        with open(RESULTS, "a") as file:
            file.write(json.dumps(row) + "\n")
    else:
        text = README.read_text()
        before, rest = text.split(BEGIN)
        README.write_text(before + BEGIN + table() + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
