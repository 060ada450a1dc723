import itertools, statistics, numbers
input()
values = [int(x) for x in input().split()]
assert all(isinstance(v, numbers.Integral) for v in values)
assert round(statistics.fmean(values) * len(values)) == sum(values)
print(list(itertools.accumulate(values))[-1])
