"""How everything here is measured: interleaved, in CPU time, the best of many rounds kept.

A busy machine can only make a round slower, never faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS, CALLS = 15, 300
Row = tuple[str, str, str]
"""What was measured, what was found, and the bar it is held against."""


def measure(
    works: dict[str, Callable[[], object]],
    *,
    calls: int = CALLS,
    clock: Callable[[], int] = time.thread_time_ns,
) -> dict[str, float]:
    """CPU microseconds per call of each work: rounds interleaved, the best round kept.

    A work that runs in threads of its own is measured with `time.process_time_ns`.
    """
    best = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = clock()
            for _ in range(calls):
                work()
            best[name] = min(best[name], (clock() - start) / calls / 1000)
    return best
