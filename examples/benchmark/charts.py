"""Line charts as SVG text, so that the page needs no other file and never varies."""

import math
from html import escape
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 340, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 24, 34
# Okabe and Ito's colours, which can be told apart by most, and two more.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5539")


class Line(NamedTuple):
    """One curve; points that are not finite are left out."""

    label: str
    x: np.ndarray
    y: np.ndarray
    style: str  # attributes of the path


def style(index: int) -> str:
    """Attributes of the ``index``-th curve of a chart."""
    dash = ("", "6 2", "2 2")[index // len(COLOURS) % 3]
    return f'stroke="{COLOURS[index % len(COLOURS)]}" stroke-dasharray="{dash}"'


def ticks(low: float, high: float, is_log: bool) -> list[float]:
    """A few round numbers between two, in the axis's own scale."""
    if is_log:
        step = max(1, math.ceil((high - low) / 5))
        return [float(x) for x in range(math.ceil(low), math.floor(high) + 1, step)]
    rough = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def chart(
    title: str,
    lines: list[Line],
    x_label: str,
    is_log: tuple[bool, bool] = (False, False),
    y_range: tuple[float, float] | None = None,
) -> str:
    """An <svg> of its lines, each with a tooltip that names it.

    Args:
      title: Above the chart.
      lines: The first is drawn first, beneath the others.
      x_label: Below.
      is_log: Whether the axes x and y are logarithmic.
      y_range: What a linear y axis shows; by default all points.

    Returns:
      The element.
    """
    scaled = []
    for line in lines:
        points = []
        for values, log in zip((line.x, line.y), is_log, strict=True):
            values = np.asarray(values, float)
            points.append(
                np.log10(np.where(values > 0, values, np.nan)) if log else values
            )
        x, y = points
        kept = np.isfinite(x) & np.isfinite(y)
        scaled.append((x[kept], y[kept]))
    bounds = []
    for axis in (0, 1):
        values = np.concatenate([points[axis] for points in scaled])
        low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
        pad = 0.04 * (high - low) or 0.5
        bounds.append((low - pad, high + pad))
    (x0, x1), (y0, y1) = bounds[0], y_range or bounds[1]
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(x):
        return LEFT + inner_width * (x - x0) / (x1 - x0)

    def up(y):
        return HEIGHT - BOTTOM - inner_height * (y - y0) / (y1 - y0)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text x="{LEFT}" y="15" class="title">{escape(title)}</text>',
    ]
    for x in ticks(x0, x1, is_log[0]):
        parts.append(
            f'<path d="M{across(x):.1f} {TOP}V{HEIGHT - BOTTOM}" class="grid"/>'
            f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 13}" '
            f'text-anchor="middle">{number(x, is_log[0])}</text>'
        )
    for y in ticks(y0, y1, is_log[1]):
        parts.append(
            f'<path d="M{LEFT} {up(y):.1f}H{WIDTH - RIGHT}" class="grid"/>'
            f'<text x="{LEFT - 4}" y="{up(y) + 3:.1f}" '
            f'text-anchor="end">{number(y, is_log[1])}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" '
        f'text-anchor="middle">{escape(x_label)}</text>'
    )
    # Coordinates stay those of the whole, and what lies beside the axes is not shown.
    box = f"{LEFT} {TOP} {inner_width} {inner_height}"
    place = 'x="{}" y="{}" width="{}" height="{}"'.format(*box.split())
    parts.append(f'<svg viewBox="{box}" {place}>')
    for line, (x, y) in zip(lines, scaled, strict=True):
        points = [f"{across(a):.1f} {up(b):.1f}" for a, b in zip(x, y, strict=True)]
        if points:
            parts.append(
                f'<path d="M{"L".join(points)}" class="line" fill="none" {line.style}>'
                f"<title>{escape(line.label)}</title></path>"
            )
    return "".join([*parts, "</svg></svg>"])


def number(value: float, is_log: bool) -> str:
    """A tick's label."""
    return f"1e{value:.0f}" if is_log else f"{value:.4g}"


def legend(lines: list[Line]) -> str:
    """Names beside samples of their lines."""
    items = (
        f'<span><svg viewBox="0 0 24 8" class="sample"><path d="M0 4H24" class="line" '
        f"{line.style}/></svg> {escape(line.label)}</span>"
        for line in lines
    )
    return f'<p class="legend">{" ".join(items)}</p>'
