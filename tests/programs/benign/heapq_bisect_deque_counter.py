import bisect, heapq
from collections import Counter, defaultdict, deque
input()
xs = list(map(int, input().split()))
heapq.heapify(xs)
ordered = []
while xs:
    bisect.insort(ordered, heapq.heappop(xs))
print(sum(value * count for value, count in Counter(deque(ordered)).items()))
