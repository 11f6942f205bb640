"""Does the base rate matter to other optimizers than Adam? The plan "robustness".

    cd examples && python -m benchmark.robustness --jobs 2

Autotune, a rule and a peer from 1e-7 to 10 around AdamW, SGD, momentum and Lion, and
the cosine on the same grid; for Adam and all methods, the standard plan has these. The
report puts the table of both into docs/autotune.md.
"""

from benchmark import run

if __name__ == "__main__":
    run.main("robustness")
