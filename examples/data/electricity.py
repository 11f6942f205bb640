"""Electricity demand as windows: a history, and the half-hours or hours to forecast.

The splits are in time: the last sixth is the test split, the sixth before validation.
"""

from functools import partial
from pathlib import Path

import numpy as np

from data import prepared
from data.dataset import Arrays, Dataset, size

TAYLOR = Path(__file__).with_name("taylor.csv")
NAMES = ("taylor", "ld2011_2014")
LEAST_WEEKS = 8  # of a series, to be learned from


def load(
    name: str,
    data_dir: str | None = None,
    history: int = 96,
    horizon: int = 48,
    train_size: int | None = None,
) -> Dataset:
    """Loads series and cuts them into windows.

    Args:
      name: ``"taylor"``, national demand of England and Wales in half-hours, or
        ``"ld2011_2014"``, 370 Portuguese clients in hours, prepared with TFDS.
      data_dir: Where TFDS prepared it.
      history: Values that a forecast sees, C.
      horizon: Values to forecast, H, at most a week.
      train_size: Use the newest so many training windows; None for all.

    Returns:
      A data set whose batches hold, standardised by each series' training part,
      ``history`` (B, C, 2): demand, and demand a week earlier; ``week_before`` (B, H)
      and ``target`` (B, H); ``phase`` (B,): of the week, in [0, 1); and ``unit``
      (B,): the standard deviation in MW or kW.
    """
    if name == "taylor":
        series = np.loadtxt(TAYLOR, delimiter=",", dtype=np.float32).reshape(1, -1)
        week, source, unit = 336, "taylor (2003), embedded", "MW"
    else:
        splits, source = prepared.open_prepared(name, data_dir, "taylor")
        clients = prepared.read_all(splits["train"])
        series = np.stack([client["demand"] for client in clients])
        week, unit = 168, "kW"
    if not 1 <= horizon <= week:
        raise SystemExit(f"--horizon must be 1 to {week}, a week, not {horizon}")
    length = series.shape[1]
    validation_start, test_start = length * 4 // 6, length * 5 // 6
    before = week + history  # What a window needs before its first target.
    if validation_start < before + horizon:
        raise SystemExit(f"{name}: {length} values are too few for windows of {before}")
    # Clients begin at different times, as zeros until then, which are no demand. One
    # that begins late, or never changes before validation, leaves too little to learn.
    begin = (series != 0).argmax(1)
    learned: dict[int, np.ndarray] = {}
    for i, (row, first) in enumerate(zip(series, begin, strict=True)):
        part = row[first:validation_start]
        if len(part) >= LEAST_WEEKS * week and part.std() > 0:
            learned[i] = part
    if not learned:
        raise SystemExit(
            f"{name}: no series has {LEAST_WEEKS} weeks before those of validation"
        )
    series, begin = series[[*learned]], begin[[*learned]]
    mean = np.array([[part.mean()] for part in learned.values()])
    std = np.array([[part.std()] for part in learned.values()])

    def windows(start: int, stop: int) -> Arrays:
        """The windows whose targets lie in [start, stop), one from each value on."""
        grid = np.arange(start, stop - horizon + 1)
        rows, columns = np.nonzero(grid >= begin[:, None] + before)
        return {"series": rows.astype(np.int32), "start": grid[columns]}

    train = windows(before, validation_start)
    if train_size is not None:
        newest = np.sort(np.argsort(train["start"], kind="stable")[-train_size:])
        train = {key: array[newest] for key, array in train.items()}
    cut = partial(
        _cut, (series - mean) / std, std[:, 0], history=history, horizon=horizon
    )
    cut = partial(cut, week=week)
    return Dataset(
        source=source,
        train=train,
        validation=windows(validation_start, test_start),
        # From all times of the day, like validation: one window a day says little.
        test=windows(test_start, length),
        info={"unit": unit, "series": len(series)},
        augment=cut,
        prepare=cut,
    )


def weekly_naive_error(data: Dataset) -> float:
    """Mean absolute test error of repeating the week before, the baseline to beat."""
    total, rng = 0.0, np.random.default_rng(0)
    for first in range(0, size(data.test), 4096):  # all at once are gigabytes
        part = {name: x[first : first + 4096] for name, x in data.test.items()}
        batch = data.prepare(part, rng)
        error = np.abs(batch["week_before"] - batch["target"]).mean(1) * batch["unit"]
        total += float(error.sum(dtype=np.float64))
    return total / size(data.test)


def _cut(
    series: np.ndarray,
    std: np.ndarray,
    arrays: Arrays,
    rng: np.random.Generator,
    *,
    history: int,
    horizon: int,
    week: int,
) -> Arrays:
    """Cuts the windows that begin their targets at ``start``."""
    rows, start = arrays["series"], arrays["start"]
    past = start[:, None] + np.arange(-history, 0)  # (B, C)
    future = start[:, None] + np.arange(horizon)  # (B, H)
    rows = rows[:, None]
    return {
        "history": np.stack([series[rows, past], series[rows, past - week]], -1),
        "week_before": series[rows, future - week],
        "target": series[rows, future],
        "phase": ((start % week) / week).astype(np.float32),
        "unit": std[arrays["series"]].astype(np.float32),
    }
