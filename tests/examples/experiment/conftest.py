"""Rows as the runner writes them, made up."""

import numpy as np
import pytest

from experiment import plan as plans

POINTS, VALIDATIONS, STEPS = 60, 10, 1000


def made_up(run, is_accuracy):
    """A run that is the better the nearer its rate is to 0.00316."""
    noise = np.random.default_rng(run.seed).normal()
    names = [entry.method for entry in plans.ENTRIES.values()]
    off = abs(np.log10(run.rate / 3.16e-3)) + 0.05 * names.index(run.method)
    end = 90 - 5 * off + noise if is_accuracy else 400 + 50 * off + noise
    part = np.linspace(0, 1, VALIDATIONS + 1)[1:]
    sign = 1 if is_accuracy else -1
    steps = np.linspace(0, 1, POINTS + 1)[1:]
    rates = run.rate * (0.5 + 0.5 * np.cos(np.pi * steps)) + 1e-6
    return run._asdict() | {
        "failed": None,
        "commit": "abc",
        "steps": STEPS,
        "steps_per_epoch": STEPS // 5,  # two validations an epoch
        "validation_loss": list(0.1 + off + 2 * np.exp(-6 * part)),
        "validation": list(end - sign * 40 * np.exp(-6 * part)),
        "train": list(end - sign * 30 * np.exp(-6 * part)),
        "loss_curve": list(0.1 + 0.1 * off + 2 * np.exp(-6 * steps)),
        "rate_curve": list(rates),
        "late_loss_std": 0.05,
        "fit": end + sign * 3.0,
        "test": end - sign * 1.0,
    }


def all_rows(plan, tasks=None):
    """All rows of a plan, or of some of its tasks, in the order of the runner."""
    rows = []
    for i in range(len(plans.stages(plan, rows))):
        for run in plans.missing(plan, rows)[i]:
            if tasks is not None and run.task not in tasks:
                continue
            if run.method in (plans.BASELINE, plans.PRETRAINING):
                rows.append(run._asdict() | {"failed": None, "test": 12.5})
            elif run.rate is not None:
                rows.append(made_up(run, plan.tasks[run.task].is_accuracy))
    return rows


@pytest.fixture(scope="session")
def standard():
    """The standard plan and all of its rows."""
    plan = plans.PLANS["standard"]
    return plan, all_rows(plan)
