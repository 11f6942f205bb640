"""Slow reference of maintain: what it decides of a block of steps, in float64."""

import math
from typing import NamedTuple


class Block(NamedTuple):
    """What is measured of a block of steps."""

    step: int  # index of its last one
    value: float  # its mean loss; inf if it blew up
    error: float  # standard error of that
    gap: float | None  # mean averaging gap; None if not measured
    slope: float  # mean slope towards the copy
    is_rolled_back: bool = False


class Decided(NamedTuple):
    """What maintain makes of it."""

    log_scale: float
    restarts: bool
    rises: bool
    half_life: float
    average_lags: bool
    next_size: int


class MaintainReference:
    """Is handed each block and the log factor in force, and says what follows."""

    def __init__(self, total_steps=None, found=None, is_interpolated=False):
        self.probation = min(total_steps // 4, 125) if total_steps else 125
        # Log factor found; first loss, its error and whether it has noise.
        self.found_scale, *first = found or 4 * (None,)
        self.first, self.deviation, self.is_noisy = first
        self.is_interpolated = is_interpolated
        self.value_left = math.inf
        self.begin(None)

    def begin(self, began):
        self.began, self.elapsed = began, 0
        self.blown_up_at, self.backoffs = 0, 0
        self.forget()

    def forget(self):
        self.blocks = []  # means and errors
        self.half_life, self.average_lags = 1.0, False

    def __call__(self, block: Block, log_scale: float) -> Decided:
        is_finite = math.isfinite(block.value)
        if self.began is None:
            self.began = max(block.step + 1 - 40, 0)
        if self.found_scale is None:
            self.found_scale = log_scale
        if self.first is None and is_finite:
            self.first, self.deviation = block.value, block.error * math.sqrt(40)
            self.is_noisy = self.deviation > 1e-3 * abs(block.value)
        self.elapsed = block.step + 1 - self.began
        if block.is_rolled_back:
            self.forget()
        if block.is_rolled_back and not is_finite:  # the rate is to blame
            is_soon = self.elapsed < 2 * self.blown_up_at
            halvings = 2 if is_soon else 1
            self.blown_up_at = self.elapsed
            self.backoffs += halvings
            return self.decided(self.floored(log_scale, -halvings * math.log(2)))
        change = 0.0
        if is_finite:
            self.blocks.append((block.value, block.error))
            self.average_lags = False
            is_mute = block.error <= 1e-6 * abs(block.value)
            is_mute &= abs(self.first - block.value) <= self.deviation
            if len(self.blocks) >= 3 and block.gap is not None and not is_mute:
                change = self.judge(block, log_scale)
                is_early = self.elapsed <= self.probation
                if change < math.log(0.7) and is_early and self.is_harmful:
                    self.value_left = block.value
                    self.begin(block.step + 1)
                    return self.decided(log_scale + change, restarts=True)
                change = max(change, -math.log(10) / 2)
            # What has gone well for as long again is undone.
            is_long = self.elapsed >= 2 * self.blown_up_at
            if self.backoffs and is_long and change >= 0:
                change = math.log(2)
                self.blown_up_at, self.backoffs = self.elapsed, self.backoffs - 1
        return self.decided(self.floored(log_scale, change), rises=change > 0)

    def floored(self, log_scale, change):
        """No lower than a thousandth of the rate found, or than it was."""
        floor = min(log_scale, self.found_scale - math.log(1000))
        return max(log_scale + change, floor)

    def judge(self, block, log_scale):
        """The change that is allowed, as a log factor; sets the average."""
        (oldest, oldest_error), *_, (newest, newest_error) = self.blocks[-3:]
        decrease, error = oldest - newest, math.hypot(oldest_error, newest_error)
        total = max(self.first - newest, 0.0)
        gap = block.gap / math.sqrt(0.3) if self.is_interpolated else block.gap
        high, shortest = (2.0, 1.0) if self.is_interpolated else (1.0, 0.0)
        ratio = gap / max(decrease, 1e-30)
        self.half_life = max(math.sqrt(min(max(ratio, 1 / 4), 4)), shortest)
        self.average_lags = gap < 0.125 * (decrease - 2 * error)

        most = high * (decrease + 2 * error)
        if most < 0 and gap < -decrease / 2:
            change = 0.0  # the average has become worse as well
        elif most <= 0:
            change = math.log(0.1)
        elif gap > most:
            change = max(math.log(most / gap) / 2, math.log(0.1))
        elif decrease > 0 and gap < decrease / 4:
            least = decrease / 4
            change = min(math.log(least / max(gap, 1e-3 * least)) / 2, math.log(2))
        else:
            change = 0.0
        self.is_harmful = gap > 0.02 * total
        is_early = self.elapsed <= self.probation
        points_back = block.slope < -0.2 * total and not self.is_interpolated
        if points_back and is_early and block.value < self.value_left:
            change, self.is_harmful = min(change, math.log(0.4)), True
        if self.is_noisy:
            may_rise = self.elapsed > 250 and decrease <= 9 * abs(newest)
        else:
            may_rise = decrease >= 0.1 * min(abs(newest), total)
        is_soon = self.elapsed < 2 * self.blown_up_at
        if is_soon or log_scale < self.found_scale - 1e-4:
            may_rise = False
        return change if may_rise else min(change, 0.0)

    def decided(self, log_scale, restarts=False, rises=False):
        size = max(math.ceil(self.elapsed / 3), 40)
        return Decided(
            *(log_scale, restarts, rises, self.half_life, self.average_lags, size)
        )
