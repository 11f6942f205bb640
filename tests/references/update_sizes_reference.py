"""Slow reference of by how much the updates have shrunk, a window at a time."""

import math


def update_sizes_reference(sizes):
    """Log of the average size after each window, over that after twenty."""
    averages = []
    for size in sizes:
        if size > 0 and averages:
            weight = max(1 / (len(averages) + 1), 0.1)
            averages.append((1 - weight) * averages[-1] + weight * math.log(size))
        elif size > 0:
            averages.append(math.log(size))
        first = averages[:20][-1] if averages else 0.0
        yield min(max(averages[-1] - first, -math.log(20)), 0.0) if averages else 0.0
