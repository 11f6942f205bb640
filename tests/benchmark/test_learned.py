"""What is said of the policy around a cosine, on numbers worked out by hand."""

from benchmark import learned


def rows(finals):
    return {
        ("t", method, rate, seed): {
            "test": test,
            "validation": [0.0, test],
            "initial": 10.0,
            "failed": None,
        }
        for (method, rate), tests in finals.items()
        for seed, test in enumerate(tests)
    }


def test_around_a_cosine():
    finals = {
        ("cosine", 0.1): [90.0, 90.0],
        ("cosine", 1.0): [50.0, 50.0],
        ("cosine+learned", 0.1): [92.0, 89.0],
        ("cosine+learned", 1.0): [80.0, 80.0],
    }
    around = learned.AROUND[0]
    lines = learned.verdict_around(rows(finals), {"t": True}, around)
    name, _, task, everything = lines
    assert name == "`cosine+learned`:"
    assert task == (
        "- t: +0.50 ± 19.06 points at 1e-01, 1 of 2 at or above; won back 0.75 of what "
        "a peak of 1e+00 costs"
    )
    # 0.5 of 90 - 10; each of the two seeds alone at the ends.
    assert everything.startswith("- all: +0.62% (-1.25 to +2.50)")
    assert everything.endswith("1 of 2 runs at or above it")
    assert learned.verdict_around(rows({}), {"t": True}, around) == []
