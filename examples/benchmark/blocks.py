"""What belongs between the markers of README.md and docs/: tables of all studies."""

from pathlib import Path

from benchmark import findings, measures, plans, records, summaries, tables
from benchmark.studies.ablation import report as ablation
from benchmark.studies.ablation import run as ablation_run
from benchmark.studies.base_rate import report as base_rate
from benchmark.studies.base_rate import run as base_rate_run
from benchmark.studies.beyond_home import other_rates, searches
from benchmark.studies.beyond_home import report as beyond_home
from benchmark.studies.beyond_home import run as beyond_home_run
from benchmark.studies.learned import report as learned
from benchmark.studies.online import report as online
from benchmark.studies.online import run as online_run
from benchmark.studies.overhead import compile as compilation
from benchmark.studies.overhead import report as overhead
from benchmark.studies.reliability import (
    raised_rate,
    served,
    summed_loss,
    unusual_noise,
)
from benchmark.studies.reliability import report as reliability
from benchmark.studies.reliability import run as reliability_run
from benchmark.studies.sampled_tasks import noise_ratio
from benchmark.studies.sampled_tasks import run as sampled_tasks
from benchmark.studies.transfer_tasks import run as transfer_tasks
from benchmark.tables import Table, to_markdown
from benchmark.tasks import DEVELOPMENT
from experiment import report as experiment

ROOT = Path(__file__).parents[2]
EMPTY = "*No runs are recorded yet.*\n"
AUTOTUNE_PLANS = ("robustness", "optimizers")


def of_base_rates(lines: list[records.Line]) -> dict[str, str]:
    """Tables of autotune and its peers; its own plans are preferred to ``lines``."""
    read = {
        plan: measures.gather(records.read(base_rate_run.RESULTS / f"{plan}.jsonl"))
        for plan in base_rate_run.PLANS
    }
    own = [read[plan] for plan in AUTOTUNE_PLANS]
    every = base_rate.with_autotune([*own, measures.gather(lines)])
    beside = base_rate.with_peers(read["robustness"], read["peers"])
    return {
        "autotune": to_markdown(base_rate.autotune(every), 0) if lines else EMPTY,
        "robustness": to_markdown(base_rate.robustness(every), 0) if lines else EMPTY,
        "peers": to_markdown(base_rate.peers(beside), 0) if beside else EMPTY,
    }


def of_development(text: str) -> str:
    """A table that has no caption of its own, on tasks that helped to choose."""
    return f"{DEVELOPMENT}\n\n{text}"


def folded(summary: str, table: Table) -> str:
    """A table that a page of the site shows once its summary is clicked."""
    opened = f"<details markdown><summary>{summary}</summary>"
    return f"{opened}\n\n{to_markdown(table, 0)}\n</details>\n"


def of_sampled_tasks() -> dict[str, str]:
    """Tables of docs/research/autotune_experiments.md."""
    at_rates = records.read(noise_ratio.RESULTS)
    of_families = records.read(sampled_tasks.RESULTS)
    variants = records.read(ablation_run.RESULTS)
    return {
        name: of_development(table(lines)) if lines else EMPTY
        for name, table, lines in (
            ("ways_back", noise_ratio.return_slope_table, at_rates),
            ("gain", noise_ratio.table, at_rates),
            ("kinds", sampled_tasks.table, of_families),
        )
    } | {
        "ablation": to_markdown(ablation.ablation(variants), 0) if variants else EMPTY,
    }


def blocks(lines: list[records.Line]) -> dict[tuple[Path, str], str]:
    """Markdown by file and name of the marker; ``lines`` are of the standard plan."""
    results = summaries.gather(lines)
    headline = EMPTY
    if results:
        found = findings.missing(lines, plans.PLANS["standard"])
        found += findings.sentences(results)
        sentences = "".join(f"- {x}\n" for x in found)
        kinds = to_markdown(findings.best_of_kinds(results), 0)
        every = folded("The table of all methods", tables.headline(results))
        headline = "\n".join([sentences, kinds, every])
    of_rates = of_base_rates(lines)
    learners = online.blocks(online.read(online_run.RESULTS))
    policy = learned.blocks(learned.read())
    of_makes = records.read(transfer_tasks.RESULTS)
    policy["makes"] = transfer_tasks.table(of_makes) if of_makes else EMPTY
    # The ablations of both have a page of their own.
    of_learners = {"ablations": learners.pop("ablations")}
    of_policy = {name: policy.pop(name) for name in ("ablations", "paired")}
    of_experiment = experiment.blocks(records.rows(experiment.STANDARD))
    of_other_seeds = records.rows(beyond_home.HELD_OUT_RESULTS)
    tables_of = {
        "README.md": {"cost": to_markdown(overhead.overhead(overhead.SHORT), 0)}
        | of_experiment.pop("README.md"),
        **of_experiment,
        "docs/comparison.md": {
            "benchmark": headline,
            "autotune": of_rates.pop("autotune"),
            "overhead": to_markdown(overhead.overhead(), 0),
            "compile": to_markdown(compilation.table(), 0),
        },
        "docs/research/autotune.md": of_rates,
        "docs/research/autotune_experiments.md": of_sampled_tasks(),
        "docs/research/beyond_home.md": {
            "searches": searches.table(
                records.rows(searches.RESULTS), records.rows(beyond_home_run.RESULTS)
            ),
            "other_rates": other_rates.table(records.rows(other_rates.RESULTS)),
            "held_out": beyond_home.held_out(of_other_seeds),
            "base_rates": beyond_home.base_rates(
                records.rows(beyond_home.BASE_RATE_RESULTS), of_other_seeds
            ),
        },
        "docs/research/rl.md": learners,
        "docs/research/rl_experiments.md": of_learners,
        "docs/research/learned.md": policy,
        "docs/research/learned_experiments.md": of_policy,
        "docs/reliability.md": {
            "faults": of_development(
                reliability.table(records.read(reliability_run.RESULTS))
            ),
            "raised": of_development(
                raised_rate.table(records.read(raised_rate.RESULTS))
            ),
            "unusual_noise": of_development(
                unusual_noise.table(records.read(unusual_noise.RESULTS))
            ),
            "served": of_development(served.table(records.read(served.RESULTS))),
            "summed": of_development(
                summed_loss.table(records.read(summed_loss.RESULTS))
            ),
        },
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


def write(lines: list[records.Line]) -> None:
    """Puts all of it between its markers."""
    for (path, name), content in blocks(lines).items():
        before, _, after = between(path.read_text(), name)
        path.write_text(before + content + after)
