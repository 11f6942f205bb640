"""The pages of the experiment, from the rows that are made.

    cd examples && python -m experiment.report --plan quick

writes results/PLAN.md, and a picture of each task beside it. Those of the plan
``standard`` in README.md and docs/ are written by ``benchmark.report``, with all other
tables.
"""

import argparse
from pathlib import Path

from benchmark import records
from benchmark.tables import to_markdown
from experiment import measures, tables
from experiment import plan as plans
from experiment.plan import Plan, Row
from experiment.tables import Outcomes
from methods.rules import AUTOTUNE

RESULTS = Path(__file__).with_name("results")
STANDARD = RESULTS / "standard.jsonl"
# What looks at the averaging gap, and so at the gradients.
FOLLOWS_GAP = (*tables.LEARNERS, "learned", *AUTOTUNE)


def task_sections(plan: Plan, found: Outcomes, pictures: str) -> str:
    """Table and picture of each task with rows; ``pictures`` begins their names."""
    parts = [f"{plans.TEST} {tables.progress(plan, found)} {commits(found)}\n"]
    for name, by_entry in found.items():
        if not any(outcome.rows for outcome in by_entry.values()):
            continue
        there, wanted = measures.made(plan, by_entry)
        table = tables.task_table(plan, name, by_entry)
        if there < wanted:
            text = f"**{there} of {wanted} results are there.** {table.caption}"
            table = table._replace(caption=text)
        picture = (
            f"![Validation metric, training loss and learning rate over the steps, by "
            f"group of methods: {tables.TITLES[name]}]({pictures}_{name}.png)\n"
        )
        parts += [to_markdown(table, 3), picture]
    return "\n".join(parts)


def blocks(rows: list[Row]) -> dict[str, dict[str, str]]:
    """What belongs between the markers of the pages, by page and marker."""
    plan = plans.PLANS["standard"]
    found = measures.outcomes(plan, rows)
    return {
        "README.md": {"experiment": tables.headline(plan, found)},
        "docs/experiment.md": {
            "set_up": tables.set_up(plan),
            "results": results(plan, rows, found),
        },
        "docs/experiment_tasks.md": {
            "tasks": task_sections(plan, found, "experiment"),
        },
    }


def results(plan: Plan, rows: list[Row], found: Outcomes) -> str:
    """How much there is, and all tasks in tables."""
    text = tables.progress(plan, found) + "\n"
    shown = [o for by_entry in found.values() for o in by_entry.values() if o.rows]
    if shown:
        table = to_markdown(tables.overall(plan, rows, found), 0)
        text += f"\n{table}\n"
        if any(measures.is_complete(plan, by_entry) for by_entry in found.values()):
            text += to_markdown(tables.differences(plan, found), 0) + "\n"
            text += to_markdown(tables.all_measures(plan, found), 0) + "\n"
    return text


def commits(found: Outcomes) -> str:
    """Which code made the rows, in a sentence."""
    by_group: dict[bool, set[str]] = {True: set(), False: set()}
    for by_entry in found.values():
        for name, outcome in by_entry.items():
            made = {row["commit"] for row in outcome.rows.values()}
            by_group[name in FOLLOWS_GAP] |= made
    texts = {
        group: ", ".join(sorted(made)) or tables.MISSING
        for group, made in by_group.items()
    }
    return (
        "Commits of the rows: of online learners, `learned` and `autotune` "
        f"{texts[True]}; of all others {texts[False]}."
    )


def main(args: list[str] | None = None) -> None:
    """Writes the page of a plan and its pictures."""
    from experiment import picture

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", choices=plans.PLANS, default="standard")
    parser.add_argument("--results", type=Path, help="default: results/PLAN.jsonl")
    chosen = parser.parse_args(args)
    source = chosen.results or RESULTS / f"{chosen.plan}.jsonl"
    rows, plan = records.rows(source), plans.PLANS[chosen.plan]
    if not rows:
        raise SystemExit(
            f"{source} holds no runs; make them first: python -m experiment.run "
            f"--plan {chosen.plan}"
        )
    found = measures.outcomes(plan, rows)
    page = source.with_suffix(".md")
    parts = results(plan, rows, found), task_sections(plan, found, source.stem)
    page.write_text("# The experiment\n\n" + "\n".join(parts))
    drawn = picture.draw_all(plan, found, page.with_suffix(""))
    print(f"wrote {page} and {len(drawn)} pictures beside it")


if __name__ == "__main__":
    main()
