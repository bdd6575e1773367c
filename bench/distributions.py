"""Compare the random numbers of faults with their distributions, over many draws.

Usage: python -m bench.distributions [--draws N] [--seed N]

Latencies are compared by the largest distance of their distribution function from the exact one
(Kolmogorov and Smirnov); losses, by their share and by the length of their bursts.  The exit status
is 0 if each deviation is one that chance exceeds in less than a thousandth of all runs.
"""

import argparse
import math
import sys
from collections.abc import Callable
from itertools import groupby
from random import Random

from netsrv.faults.delays import PARETO_SHAPE, Distribution, jittered
from netsrv.testing import MemoryServer

LATENCY, JITTER = 1000.0, 100.0
"""Milliseconds; far from 0, at which latencies end."""

MAX_DISTANCE = 1.95
"""Chance exceeds it, divided by the root of the number of draws, in a thousandth of all runs."""

MAX_DEVIATION = 3.3
"""Standard deviations: chance exceeds them in a thousandth of all runs."""

LOSS = 0.1
BAD, GOOD = 0.05, 0.25
"""The probabilities that a good state turns bad, and a bad one good."""


def uniform(latency: float) -> float:
    """Return the share of latencies up to this one."""
    return min(max((latency - LATENCY + JITTER) / (2 * JITTER), 0.0), 1.0)


def normal(latency: float) -> float:
    """Return the share of latencies up to this one."""
    return 0.5 * math.erfc((LATENCY - latency) / (JITTER * math.sqrt(2)))


def pareto(latency: float) -> float:
    """Return the share of latencies up to this one."""
    variate = 1 + (latency - LATENCY) / (JITTER * (PARETO_SHAPE - 1))
    return 0.0 if variate < 1 else 1 - variate**-PARETO_SHAPE


EXACT: dict[Distribution, Callable[[float], float]] = {
    Distribution.UNIFORM: uniform,
    Distribution.NORMAL: normal,
    Distribution.PARETO: pareto,
}


def distance(distribution: Distribution, draws: int, seed: int) -> float:
    """Return the largest distance of the functions, times the root of the number of draws."""
    random, exact = Random(seed), EXACT[distribution]
    latencies = sorted(jittered(LATENCY, JITTER, distribution, random) for _ in range(draws))
    shares = map(exact, latencies)
    return math.sqrt(draws) * max(
        max(share - index / draws, (index + 1) / draws - share)
        for index, share in enumerate(shares)
    )


def lost(draws: int, **fault: float | str) -> list[bool]:
    """Return for each of some datagrams to ``echo`` whether the fault has dropped it."""
    server = MemoryServer("echo", "udp", datagram_rate="none")
    with server.loss(**fault):
        return [not server.request(b"x") for _ in range(draws)]


def report(name: str, value: float, most: float) -> bool:
    """Print a deviation; return True if chance explains it."""
    print(f"{name}: {value:.2f} (at most {most:.2f})", flush=True)
    return value <= most


def main() -> int:
    """Compare, and return the exit status."""
    parser = argparse.ArgumentParser(prog="bench.distributions")
    parser.add_argument("--draws", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    draws, losses = options.draws, options.draws // 20
    fine = [
        report(f"latency, {kind}: distance", distance(kind, draws, options.seed), MAX_DISTANCE)
        for kind in EXACT
    ]
    share = sum(lost(losses, probability=LOSS, seed=options.seed)) / losses
    spread = math.sqrt(LOSS * (1 - LOSS) / losses)
    fine.append(report("loss: share, in deviations", abs(share - LOSS) / spread, MAX_DEVIATION))
    bursts = lost(losses, model="gilbert", p=BAD, r=GOOD, seed=options.seed)
    lengths = [len([*group]) for is_lost, group in groupby(bursts) if is_lost]
    mean, spread = sum(lengths) / len(lengths), math.sqrt(1 - GOOD) / GOOD / math.sqrt(len(lengths))
    deviation = abs(mean - 1 / GOOD) / spread
    fine.append(report("loss in bursts: length, in deviations", deviation, MAX_DEVIATION))
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
