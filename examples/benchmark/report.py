"""From the JSON lines to a page, a summary, and the tables of the README.

    cd examples && python -m benchmark.report --plan standard

For the standard plan it writes results/summary.md and results/standard.html, and fills
what lies between ``<!-- benchmark:begin -->`` and ``<!-- benchmark:end -->`` and
the like in README.md and docs/; for another plan, PLAN.md and PLAN.html.
"""

import argparse
import re
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

from benchmark import (
    drawn,
    findings,
    gain,
    learned_report,
    measures,
    other_makes,
    other_tables,
    page,
    plans,
    records,
    rl_report,
    summaries,
    tables,
)
from benchmark.measures import Results
from benchmark.tables import Table

RESULTS = Path(__file__).with_name("results")
ROOT = Path(__file__).parents[2]
AUTOTUNE_PLANS = ("robustness", "optimizers")
EMPTY = "*No runs are recorded yet.*\n"


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


def to_markdown(table: Table, level: int = 2) -> str:
    """A heading, the caption and the table; without the heading at level 0."""
    lines = [f"{'#' * level} {table.title}", ""] if level else []
    lines += [table.caption, ""] if table.caption else []
    return "\n".join([*lines, tables.markdown(table.header, table.rows)])


def to_html(table: Table) -> str:
    """The same for the page; it scrolls sideways on its own."""

    def cells(row: list[str], tag: str) -> str:
        texts = (re.sub("`(.*?)`", r"<code>\1</code>", escape(cell)) for cell in row)
        return "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>"

    body = "".join(cells(row, "td") for row in table.rows)
    return (
        f"<h2>{escape(table.title)}</h2><p>{escape(table.caption)}</p>"
        f'<div class="scroll"><table><thead>{cells(table.header, "th")}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def summary(lines: list[dict[str, Any]], results: Results) -> str:
    """The Markdown summary."""
    parts = ["# What the comparison gave", "", provenance(lines), ""]
    found = [*findings.sentences(results), *findings.quick_agrees(lines)]
    parts += [f"- {sentence}" for sentence in found]
    parts += [""]
    overhead = other_tables.overhead(RESULTS / "overhead.jsonl")
    for table in (tables.headline(results), *tables.details(results), overhead):
        parts += [to_markdown(table)]
    return "\n".join(parts)


def html(lines: list[dict[str, Any]], results: Results) -> str:
    """The page."""
    found = "".join(f"<li>{escape(x)}</li>" for x in findings.sentences(results))
    overhead = other_tables.overhead(RESULTS / "overhead.jsonl")
    return page.render(
        found=re.sub("`(.*?)`", r"<code>\1</code>", found),
        headline=to_html(tables.headline(results)),
        charts=page.charts_of(results),
        details="".join(map(to_html, [*tables.details(results), overhead])),
        provenance=escape(provenance(lines)),
    )


def blocks(lines: list[dict], others: list[list[dict]]) -> dict[tuple[Path, str], str]:
    """What belongs between the markers, by file and name of the marker.

    Args:
      lines: Of the standard plan.
      others: Of the plans that run autotune alone, to be preferred in its tables.

    Returns:
      Markdown.
    """
    results = measures.gather(lines)
    headline, autotune, robustness, peers = EMPTY, EMPTY, EMPTY, EMPTY
    if results:
        sentences = "".join(f"- {x}\n" for x in findings.sentences(results))
        headline = sentences + "\n" + to_markdown(tables.headline(results), 0)
        every = other_tables.with_autotune([*map(measures.gather, others), results])
        autotune = to_markdown(other_tables.autotune(every), 0)
        robustness = to_markdown(other_tables.robustness(every), 0)
    beside = other_tables.with_peers(
        measures.gather(others[0]),
        measures.gather(records.read(RESULTS / "peers.jsonl")),
    )
    if beside:
        peers = to_markdown(other_tables.peers(beside), 0)
    overhead = to_markdown(other_tables.overhead(RESULTS / "overhead.jsonl"), 0)
    variants = records.read(RESULTS / "ablation.jsonl")
    ablation = to_markdown(other_tables.ablation(variants), 0) if variants else EMPTY
    at_rates, of_kinds = records.read(gain.RESULTS), records.read(drawn.RESULTS)
    of_makes = records.read(other_makes.RESULTS)
    learners = rl_report.blocks(rl_report.read(RESULTS / "rl.jsonl"))
    policy = learned_report.blocks(learned_report.read())
    policy["makes"] = other_makes.table(of_makes) if of_makes else EMPTY
    # The ablations of both have a page of their own.
    of_learners = {"ablations": learners.pop("ablations")}
    of_policy = {name: policy.pop(name) for name in ("ablations", "paired")}
    tables_of = {
        "README.md": {
            "benchmark": headline,
            "autotune": autotune,
            "overhead": overhead,
        },
        "docs/autotune.md": {"robustness": robustness, "peers": peers},
        "docs/autotune_experiments.md": {
            "ways_back": gain.table_of_ways_back(at_rates) if at_rates else EMPTY,
            "gain": gain.table(at_rates) if at_rates else EMPTY,
            "kinds": drawn.table(of_kinds) if of_kinds else EMPTY,
            "ablation": ablation,
        },
        "docs/rl.md": learners,
        "docs/rl_experiments.md": of_learners,
        "docs/learned.md": policy,
        "docs/learned_experiments.md": of_policy,
    }
    return {
        (ROOT / page, name): text
        for page, named in tables_of.items()
        for name, text in named.items()
    }


def between(text: str, name: str) -> tuple[str, str, str]:
    """Text before, between and after the markers called ``name``."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, rest = text.split(begin)
    inside, after = rest.split(end)
    return before + begin, inside, end + after


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
    results = measures.gather(lines)
    if not summaries.complete(results)[1]:
        raise SystemExit(f"{source} holds no task with all runs of a method and cosine")
    is_standard = source == RESULTS / "standard.jsonl"
    text = source.with_name("summary.md" if is_standard else f"{source.stem}.md")
    text.write_text(summary(lines, results))
    source.with_suffix(".html").write_text(html(lines, results))
    print(to_markdown(tables.headline(results)))
    print(f"wrote {text} and {source.with_suffix('.html')}")
    if is_standard:
        others = [records.read(RESULTS / f"{plan}.jsonl") for plan in AUTOTUNE_PLANS]
        for (path, name), content in blocks(lines, others).items():
            before, _, after = between(path.read_text(), name)
            path.write_text(before + content + after)


if __name__ == "__main__":
    main()
