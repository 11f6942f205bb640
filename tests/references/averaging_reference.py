"""Slow references of with_averaging, in float64."""


def reference(params, fraction):
    """The average of a sequence of parameters, in float64, and how many it took in."""
    mean, count = params[0], 1
    for steps, newest in enumerate(params[1:], start=1):
        half_life = fraction * steps + 1.0
        # At least 32 parameters a half-life, at intervals of a power of two.
        every = 1
        while 64 * every <= half_life:
            every *= 2
        if steps % every == 0:
            weight = 1.0 - 2.0 ** (-every / half_life)
            mean, count = mean + weight * (newest - mean), count + 1
    return mean, count


def interpolated_reference(params, grads, rate, fraction, interpolation):
    """The three sequences of Schedule-Free SGD, each kept by itself, in float64."""
    point = mean = params
    seen = []
    for steps, grad in enumerate(grads):
        point = point - rate * grad
        weight = 1.0 - 2.0 ** (-1.0 / (fraction * steps + 1.0)) if steps else 1.0
        mean = mean + weight * (point - mean)
        seen.append((1.0 - interpolation) * point + interpolation * mean)
    return seen, mean
