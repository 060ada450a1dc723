import sys
sys.setrecursionlimit(200000)
def add(xs, i):
    return 0 if i == len(xs) else xs[i] + add(xs, i + 1)
input()
xs = list(map(int, input().split())) + [0] * 50000
print(add(xs, 0))
