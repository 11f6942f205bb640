"""From the JSON lines to a summary, and the tables of the README.

    cd examples && python -m benchmark.report --plan standard

For the standard plan it writes results/summary.md, and fills what lies between
``<!-- benchmark:begin -->`` and ``<!-- benchmark:end -->`` and the like in README.md
and docs/, with the pictures that are drawn from rows; for another plan, PLAN.md.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from benchmark import (
    blocks,
    findings,
    plans,
    records,
    summaries,
    tables,
)
from benchmark.measures import Results
from benchmark.run import RESULTS
from benchmark.studies.base_rate import picture as base_rate
from benchmark.studies.learned import picture as learned
from benchmark.studies.online import picture as online
from benchmark.studies.overhead.report import overhead
from benchmark.tables import to_markdown
from experiment import picture as experiment

# All of docs/ that are drawn from rows.
PICTURES = (base_rate.main, learned.main, online.main, experiment.main)


def provenance(lines: list[dict[str, Any]]) -> str:
    """What produced the lines, in a sentence."""
    headers = [line["header"] for line in lines if "header" in line]
    names = ("task", "optimizer", "method")
    groups = {tuple(header["config"].get(name) for name in names) for header in headers}
    parts = [f"{len(lines) - len(headers):,} runs in {len(groups)} groups"]
    for name in ("device", "python", "jax", "optax", "optax_adaptive", "commit"):
        values = Counter(str(header[name]) for header in headers)
        parts.append(f"{name} {', '.join(values)}")
    seconds = sum(header["seconds"] for header in headers)
    return "; ".join(parts) + f"; {seconds / 3600:.1f} hours, summed over groups."


def summary(lines: list[dict[str, Any]], results: Results, plan: plans.Plan) -> str:
    """The Markdown summary."""
    parts = ["# What the comparison gave", "", provenance(lines), ""]
    found = findings.missing(lines, plan)
    found += [*findings.sentences(results), *findings.quick_agrees(lines)]
    parts += [f"- {sentence}" for sentence in found]
    parts += [""]
    headlines = (findings.best_of_kinds(results), tables.headline(results))
    for table in (*headlines, *tables.details(results), overhead()):
        parts += [to_markdown(table)]
    return "\n".join(parts)


def main() -> None:
    """Writes all that the results of a plan give."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", choices=plans.PLANS, default="standard")
    parser.add_argument("--results", type=Path, help="default: results/PLAN.jsonl")
    args = parser.parse_args()
    source = args.results or RESULTS / f"{args.plan}.jsonl"
    lines = records.read(source)
    results, plan = summaries.gather(lines), plans.PLANS[args.plan]
    if not summaries.complete(results)[1]:
        raise SystemExit(f"{source} holds no task with all runs of a method and cosine")
    is_standard = source == RESULTS / "standard.jsonl"
    text = source.with_name("summary.md" if is_standard else f"{source.stem}.md")
    text.write_text(summary(lines, results, plan))
    print(to_markdown(tables.headline(results)))
    print(f"wrote {text}")
    if is_standard:
        blocks.write(lines)
        for draw in PICTURES:
            draw()


if __name__ == "__main__":
    main()
