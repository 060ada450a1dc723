"""The tasks of the mixed workload: twenty functions of a list of whole numbers.

Each is the reference that makes the expected outputs, and by its source text also the heart of every sample.
"""

import bisect
import collections
import heapq
import itertools


def total(values: list[int]) -> int:
    """Sum the values."""
    return sum(values)


def distinct(values: list[int]) -> int:
    """Count different values."""
    return len(set(values))


def best_profit(values: list[int]) -> int:
    """Find the most that one purchase and one later sale can earn."""
    lowest, best = values[0], 0
    for value in values:
        lowest = min(lowest, value)
        best = max(best, value - lowest)
    return best


def longest_rise(values: list[int]) -> int:
    """Find the length of the longest strictly rising subsequence."""
    tails: list[int] = []
    for value in values:
        place = bisect.bisect_left(tails, value)
        tails[place : place + 1] = [value]
    return len(tails)


def merge_cost(values: list[int]) -> int:
    """Find the least cost of merging all heaps, two at a time."""
    heap, cost = sorted(values), 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        cost += merged
        heapq.heappush(heap, merged)
    return cost


def equal_pairs(values: list[int]) -> int:
    """Count pairs of equal values."""
    return sum(count * (count - 1) // 2 for count in collections.Counter(values).values())


def longest_chain(values: list[int]) -> int:
    """Find the length of the longest chain of consecutive values, in any order."""
    present, best = set(values), 0
    for value in present:
        if value - 1 not in present:
            end = value
            while end in present:
                end += 1
            best = max(best, end - value)
    return best


def inversions(values: list[int]) -> int:
    """Count pairs whose order is falling."""
    seen: list[int] = []
    count = 0
    for value in values:
        place = bisect.bisect_right(seen, value)
        count += len(seen) - place
        seen.insert(place, value)
    return count


def prefix_sums(values: list[int]) -> list[int]:
    """Sum each prefix."""
    sums, running = [], 0
    for value in values:
        running += value
        sums.append(running)
    return sums


def next_greater(values: list[int]) -> list[int]:
    """Give for each value the next greater one, or 0."""
    answer, waiting = [0] * len(values), []
    for index, value in enumerate(values):
        while waiting and values[waiting[-1]] < value:
            answer[waiting.pop()] = value
        waiting.append(index)
    return answer


def ranks(values: list[int]) -> list[int]:
    """Give each value's rank among the different values."""
    rank = {value: place for place, value in enumerate(sorted(set(values)))}
    return [rank[value] for value in values]


def running_maximum(values: list[int]) -> list[int]:
    """Give the greatest value so far."""
    best, answer = 0, []
    for value in values:
        best = max(best, value)
        answer.append(best)
    return answer


def h_index(values: list[int]) -> int:
    """Find the most h for which h values are at least h."""
    return sum(value > place for place, value in enumerate(sorted(values, reverse=True)))


def most_water(values: list[int]) -> int:
    """Find the most water between two walls."""
    left, right, best = 0, len(values) - 1, 0
    while left < right:
        best = max(best, (right - left) * min(values[left], values[right]))
        if values[left] < values[right]:
            left += 1
        else:
            right -= 1
    return best


def robbery(values: list[int]) -> int:
    """Find the greatest sum without neighbours."""
    taken, left = 0, 0
    for value in values:
        taken, left = left + value, max(taken, left)
    return max(taken, left)


def polynomial(values: list[int]) -> int:
    """Evaluate the polynomial with these coefficients at 31, modulo a prime."""
    result = 0
    for value in values:
        result = (31 * result + value) % 1_000_000_007
    return result


def zigzag(values: list[int]) -> int:
    """Find the length of the longest subsequence that rises and falls by turns."""
    up, down = 1, 1
    for before, after in itertools.pairwise(values):
        if after > before:
            up = down + 1
        elif after < before:
            down = up + 1
    return max(up, down)


def by_frequency(values: list[int]) -> list[int]:
    """List the different values, the commonest first."""
    count = collections.Counter(values)
    return sorted(count, key=lambda value: (-count[value], value))


def window_maximum(values: list[int]) -> list[int]:
    """Give the greatest value of every window of up to eight."""
    window: collections.deque[int] = collections.deque()
    answer: list[int] = []
    for index, value in enumerate(values):
        while window and values[window[-1]] <= value:
            window.pop()
        window.append(index)
        if window[0] <= index - 8:
            window.popleft()
        answer.append(values[window[0]])
    return answer


def even_first(values: list[int]) -> list[int]:
    """Put even values before odd ones, otherwise in their order."""
    return [value for value in values if value % 2 == 0] + [value for value in values if value % 2]


SCRIPTS = (
    total,
    distinct,
    best_profit,
    longest_rise,
    merge_cost,
    equal_pairs,
    longest_chain,
    inversions,
    prefix_sums,
    next_greater,
    ranks,
    running_maximum,
)
"""Tasks posed as programs that read standard input."""
METHODS = (h_index, most_water, robbery, polynomial, zigzag, by_frequency, window_maximum, even_first)
"""Tasks posed as methods of a class `Solution`."""
