"""Does the base rate matter to autotune? The plan "robustness", for Adam.

    cd examples && python -m benchmark.robustness --jobs 2
    cd examples && python -m benchmark.robustness --plan optimizers
    cd examples && python -m benchmark.robustness --plan peers

Nine base rates from 1e-7 to 10, against a cosine tuned on three rates a decade; with
``--plan optimizers`` around other optimizers, with ``--plan peers`` other methods from
the same rates. The report puts the tables into README.md and docs/autotune.md.
"""

from benchmark import run

if __name__ == "__main__":
    run.main("robustness")
