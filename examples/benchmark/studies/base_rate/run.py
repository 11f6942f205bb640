"""Does the base learning rate matter to autotune, and to its peers?

    cd examples && python -m benchmark.studies.base_rate.run --jobs 2
    cd examples && python -m benchmark.studies.base_rate.run --plan optimizers
    cd examples && python -m benchmark.studies.base_rate.run --plan peers

Nine base rates from 1e-7 to 10, against a cosine tuned on three rates a decade; with
``--plan optimizers`` around other optimizers, with ``--plan peers`` other methods from
the same rates. The report puts the tables into docs/comparison.md and
docs/research/autotune.md.
"""

from pathlib import Path

from benchmark import run
from benchmark.plans import COSINE_RATES, DECADES, TIMES, Plan
from benchmark.tasks import TASKS
from methods import peers, rules

RESULTS = Path(__file__).parent
PLANS = {
    # Does the base rate matter to autotune, whatever the optimizer?
    "robustness": Plan(
        tuple(TASKS),
        ("adam",),
        ("cosine", *rules.AUTOTUNE),
        DECADES,
        seeds=15,
        cosine_rates=COSINE_RATES,
        keeps=TIMES,
    ),
    # And to others that want no rate, or less of one?
    "peers": Plan(tuple(TASKS), ("adam",), tuple(peers.PEERS), DECADES, seeds=3),
    "optimizers": Plan(
        ("digits", "demand"),
        tuple(optimizer for optimizer in COSINE_RATES if optimizer != "adam"),
        ("cosine", *rules.AUTOTUNE),
        DECADES,
        seeds=5,
        cosine_rates=COSINE_RATES,
        keeps=TIMES,
    ),
}

if __name__ == "__main__":
    run.main(PLANS, "robustness", RESULTS)
