import sys
n = int(input())
print(sum(map(int, sys.stdin.read().split())))
