"""Sentences that the results support, made from them: where static schedules win."""

from benchmark import measures, summaries
from benchmark.measures import Results

FEEDBACK = ("rule", "learner", "autotune")


def best_of(results: Results, task: str, names: list[str]) -> tuple[str, float]:
    """The best method by validation, each at its tuned rate, and its test metric."""
    validation, test = {}, {}
    for name in names:
        runs = results[task, "adam", name]
        rate = measures.tuned(runs)
        validation[name] = measures.final_validation(runs)[rate].mean()
        test[name] = float(measures.final_test(runs)[rate].mean())
    is_accuracy = results[task, "adam", "cosine"].facts.is_accuracy
    best = (max if is_accuracy else min)(names, key=validation.__getitem__)
    return best, test[best]


def sentences(results: Results) -> list[str]:
    """Which method is best where, after tuning and without."""
    tasks, names = summaries.complete(results)
    rows = summaries.summaries(results)

    def kind(*families: str) -> list[str]:
        return [name for name in names if summaries.family(name) in families]

    found, wins = [], []
    for task in tasks:
        is_accuracy = results[task, "adam", "cosine"].facts.is_accuracy
        static, a = best_of(results, task, kind("schedule"))
        ours, b = best_of(results, task, kind(*FEEDBACK) or [static])
        if measures.gain(a, b, is_accuracy) > 0:
            wins.append(f"{task} (`{static}` {a:.4g}, `{ours}` {b:.4g})")
    found.append(
        "The best static schedule ends better than the best feedback method of this "
        "library, both tuned and chosen by validation and compared on test, on "
        f"{len(wins)} of {len(tasks)} tasks"
        + (f": {', '.join(wins)}." if wins else ".")
    )
    for label, members in (
        ("static schedule", kind("schedule")),
        ("published method", kind("peer")),
        ("rule or learner of this library", kind("rule", "learner")),
        ("form of autotune", kind("autotune")),
    ):
        mine = [row for row in rows if row.method in members]
        if not mine:
            continue
        top = max(mine, key=lambda row: row.tuned[0])
        mean, low, high = top.tuned
        safe = max(mine, key=lambda row: row.worst)
        found.append(
            f"Best {label}: after tuning `{top.method}`, {mean:+.2f} ({low:+.2f} to "
            f"{high:+.2f}) against the tuned cosine; from the worst base rate of the "
            f"worst task `{safe.method}`, {safe.worst:+.1f}."
        )
    return found
