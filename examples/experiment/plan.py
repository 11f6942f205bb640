"""What the experiment runs, and by which rules it is judged, fixed beforehand.

What changed with rows in view is listed in docs/experiment_tasks.md.

Does a learning rate that follows the loss train faster, end better, generalise better
and more stably than a fixed one, a step decay or a cosine? On the tasks below, with
Adam and batches of 64, every entry of ``ENTRIES`` is run for the same seeds.

Rules:

- An entry without a rate is *tuned*: the seven ``rates`` of the plan are run at seed 0,
  the one whose last validation metric is best, of equal ones the one whose validation
  loss is, is the rate of all seeds. A failed run is worse than all others; where all
  fail, it is the lowest rate.
- A run fails if the training losses of its last tenth or one of its last evaluations is
  not finite.
- Test data are read once a run, at its end. Nothing is chosen by them.
- The threshold of a task is the mean over seeds of the tuned cosine's last validation
  metric, less (for an error: plus) the standard error of that mean. A run reaches it at
  its first validation that is at least as good; one that never does counts as infinite.
- The gap is how much worse the last validation metric is than that of as many training
  examples, drawn at random and evaluated alike: no augmentation, no dropout, averaged
  parameters where the method averages, batch-norm statistics recomputed for all.
- Variability is the standard deviation of the logged training losses over the last
  tenth of the run.
- Intervals are of the difference to the tuned cosine at the same seed: the mean, and
  its 95% interval by Student's t.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from data import electricity, text
from data.dataset import Dataset

# What each table of these tasks says of them.
TEST = (
    "Test tasks. Results on those marked § led to changes of `autotune`; the others "
    "chose nothing."
)
SEEDS = (0, 1, 2)
RATES = (1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1)
# At full size: BERT is fine-tuned at 2e-5 to 5e-5 (Devlin et al., NAACL 2019).
FULL_RATES = (1e-5, 3.16e-5, 1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2)
# Runs that are no entries, by the name that stands in the place of a method.
PRETRAINING, BASELINE = "pretraining", "baseline"
PRETRAINING_SCRIPT = "masked_words"

Row = dict[str, Any]


class Task(NamedTuple):
    """A script with its flags."""

    script: str
    metric: str  # of the script's log
    flags: dict[str, Any]
    seconds: float  # that a run takes, about, on one core
    # What a full run would have in place of the flags.
    full_size: str
    is_seen: bool = False  # Did test figures of it help to choose anything?
    pretraining: dict[str, Any] | None = None  # more flags, of masked_words.py
    baseline: Callable[[Dataset], float] | None = None  # the metric, without a network

    @property
    def is_accuracy(self) -> bool:
        """Whether more is better."""
        return self.metric == "accuracy"

    @property
    def scale(self) -> float:
        """From the log's metric to that of the tables: percent correct, or MW."""
        return 100.0 if self.is_accuracy else 1.0


class Entry(NamedTuple):
    """A row of the tables: a method, and its rate; None if that is tuned."""

    method: str
    rate: float | None


class Run(NamedTuple):
    """What identifies a line of the results."""

    task: str
    method: str
    rate: float | None
    seed: int


class Plan(NamedTuple):
    """All entries are run on all tasks."""

    tasks: dict[str, Task]
    entries: dict[str, Entry]
    seeds: tuple[int, ...] = SEEDS
    rates: tuple[float, ...] = RATES


ENTRIES = {
    "fixed": Entry("fixed", 1e-3),
    "step": Entry("step_fifths", 1e-2),
    "cosine": Entry("cosine", 1e-2),
    "fixed_tuned": Entry("fixed", None),
    "step_tuned": Entry("step_fifths", None),
    "cosine_tuned": Entry("cosine", None),
    "constant_averaged": Entry("constant_averaged", None),
    "plateau": Entry("plateau", 1e-2),
    "trend": Entry("trend", 1e-2),
    "greedy": Entry("greedy", 1e-2),
    "cosine+bandit": Entry("cosine+bandit", 1e-2),
    "cosine+q_learning": Entry("cosine+q_learning", 1e-2),
    "cosine+actor_critic": Entry("cosine+actor_critic", 1e-2),
    "learned": Entry("learned", 1e-2),
    "autotune": Entry("autotune", 1e-2),
    "autotune_anytime": Entry("autotune_anytime", 1e-2),
    "autotune_interpolated": Entry("autotune_interpolated", 1e-2),
    "autotune_interpolated_anytime": Entry("autotune_interpolated_anytime", 1e-2),
}


def pretraining(task: str) -> Run:
    """The run that others of the task begin with."""
    return Run(task, PRETRAINING, None, 0)


def key(row: Row) -> Run:
    """The run of a row."""
    return Run(*(row[name] for name in Run._fields))


def chosen_rate(plan: Plan, rows: list[Row], task: str, method: str) -> float | None:
    """The rate that the tuning chose; None while it is not over."""
    tried = {
        row["rate"]: row
        for row in rows
        if (row["task"], row["method"], row["seed"]) == (task, method, 0)
    }
    if not set(plan.rates) <= set(tried):
        return None

    def losses(rate: float) -> tuple[float, float]:
        row = tried[rate]
        if row["failed"]:
            return float("inf"), float("inf")
        metric, loss = row["validation"][-1], row["validation_loss"][-1]
        return (-metric if plan.tasks[task].is_accuracy else metric), loss

    return min(sorted(plan.rates), key=losses)


def stages(plan: Plan, rows: list[Row]) -> list[list[Run]]:
    """Runs in their order: each stage may need the rows of those before it.

    Args:
      plan: What is wanted.
      rows: What there is already.

    Returns:
      What others need; the tuning; each seed. A rate that is not chosen yet is None.
    """
    tasks = plan.tasks.items()
    first = [pretraining(name) for name, task in tasks if task.pretraining]
    first += [Run(name, BASELINE, None, 0) for name, task in tasks if task.baseline]
    tuned = dict.fromkeys(e.method for e in plan.entries.values() if e.rate is None)
    tuning = [
        Run(task, method, rate, 0)
        for method in tuned
        for rate in plan.rates
        for task in plan.tasks
    ]

    def rate_of(task: str, entry: Entry) -> float | None:
        if entry.rate is not None:
            return entry.rate
        return chosen_rate(plan, rows, task, entry.method)

    by_seed = [
        [
            Run(task, entry.method, rate_of(task, entry), seed)
            for entry in plan.entries.values()
            for task in plan.tasks
        ]
        for seed in plan.seeds
    ]
    return [list(dict.fromkeys(stage)) for stage in (first, tuning, *by_seed)]


def missing(plan: Plan, rows: list[Row]) -> list[list[Run]]:
    """The runs of each stage that there are no rows of, each once."""
    seen = {key(row) for row in rows}
    wanted = []
    for stage in stages(plan, rows):
        wanted.append([run for run in stage if run not in seen])
        seen |= set(stage)
    return wanted


_TEXT = {"width": 32, "vocabulary": 10_000}
_ENCODER = _TEXT | {"length": 128, "layers": 2, "heads": 2}
_IMAGES = {"width": 8, "steps_per_dispatch": 1}

# Sized for two cores of a CPU.
TASKS = {
    "mlp": Task(
        "mlp_mnist",
        "accuracy",
        {"dataset": "digits", "epochs": 50},
        seconds=10,
        full_size="MNIST, of 60,000 images of 28x28 in place of 1,797 of 8x8, enlarged",
        is_seen=True,
    ),
    "electricity": Task(
        "lstm_electricity",
        "absolute_error",
        {"epochs": 30},
        seconds=30,
        full_size="one epoch of 370 series of four years in place of 30 of one of "
        "twelve weeks",
        is_seen=True,
        baseline=electricity.weekly_naive_error,
    ),
    "lstm": Task(
        "lstm_sentiment",
        "accuracy",
        _TEXT | {"length": 200, "epochs": 3, "validations": 4},
        seconds=70,
        full_size="width 64 in place of 32, 400 words in place of 200, 50 epochs in "
        "place of 3",
        is_seen=True,
        baseline=text.bag_of_words_accuracy,
    ),
    "transformer": Task(
        "transformer_sentiment",
        "accuracy",
        _ENCODER | {"epochs": 3, "validations": 4},
        seconds=100,
        full_size="BERT-base: width 768 in place of 32, 12 layers in place of 2, 512 "
        "words in place of 128, 30,522 words known in place of 10,000; 50 epochs in "
        "place of 3",
        baseline=text.bag_of_words_accuracy,
    ),
    "transformer_finetuned": Task(
        "transformer_sentiment",
        "accuracy",
        _ENCODER | {"epochs": 1, "validations": 10},
        seconds=40,
        full_size="BERT-base, as above, and pretraining on billions of words in place "
        "of ten passes over the training reviews",
        pretraining={"epochs": 10, "validations": 1, "learning_rate": 3e-3},
        baseline=text.bag_of_words_accuracy,
        is_seen=True,
    ),
    "resnet18": Task(
        "resnet18_cifar",
        "accuracy",
        _IMAGES
        | {"dataset": "cifar100", "train_size": 15_360, "epochs": 3, "validations": 4},
        seconds=110,
        full_size="width 64 in place of 8, 45,000 images in place of 15,360, 50 epochs "
        "in place of 3",
    ),
    "vgg16": Task(
        "vgg16_cifar",
        "accuracy",
        _IMAGES | {"train_size": 20_480, "dropout": 0.0, "epochs": 3, "validations": 4},
        seconds=90,
        full_size="width 64 in place of 8, 45,000 images in place of 20,480, dropout "
        "0.5 in place of 0, 50 epochs in place of 3",
        is_seen=True,
    ),
}
# The scripts as they are: for a machine with an accelerator.
_BERT = {"width": 768, "layers": 12, "heads": 12, "length": 512, "norm": "post"}
_BERT |= {"vocabulary": 30_522, "dtype": "bfloat16"}
# LD2011_2014 has 35,064 hours of 370 clients at most. 23,137 windows of each are for
# training and 5,821 for validation: 134,000 and 34,000 batches of 64. One epoch is
# eight times the steps of 50 on IMDB, and its four validations are as many again.
_CLIENTS = {"dataset": "ld2011_2014", "history": 48, "horizon": 24}
_CLIENTS |= {"epochs": 1, "validations": 4}
FULL = {
    "mlp": TASKS["mlp"]._replace(flags={}),
    "electricity": TASKS["electricity"]._replace(flags=_CLIENTS),
    "lstm": TASKS["lstm"]._replace(flags={}),
    "transformer": TASKS["transformer"]._replace(flags=_BERT),
    "transformer_finetuned": TASKS["transformer_finetuned"]._replace(
        flags=_BERT | {"epochs": 3, "validations": 10},
        pretraining={"epochs": 40, "validations": 1, "learning_rate": 1e-4},
    ),
    "resnet18": TASKS["resnet18"]._replace(flags={"dataset": "cifar100"}),
    "vgg16": TASKS["vgg16"]._replace(flags={}),
}
QUICK = {name: TASKS[name] for name in ("mlp", "electricity")}
QUICK["electricity"] = QUICK["electricity"]._replace(flags={"epochs": 10}, seconds=10)
QUICK["lstm"] = TASKS["lstm"]._replace(
    flags=_TEXT | {"length": 100, "epochs": 1, "validations": 4}, seconds=20
)
QUICK_ENTRIES = ("cosine", "cosine_tuned", "trend", "cosine+bandit", "autotune")

PLANS = {
    "standard": Plan(TASKS, ENTRIES),
    "quick": Plan(
        QUICK,
        {name: ENTRIES[name] for name in QUICK_ENTRIES},
        rates=(1e-3, 1e-2, 1e-1),
    ),
    "full": Plan(FULL, ENTRIES, rates=FULL_RATES),
}
