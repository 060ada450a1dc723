import sys
assert 'seen' not in globals()
seen = True
assert sys.getrecursionlimit() == 1000
sys.setrecursionlimit(5000)
input()
print(sum(map(int, input().split())))
