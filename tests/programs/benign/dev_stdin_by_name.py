import sys
sys.stdin = open('/dev/stdin')
input()
print(sum(map(int, input().split())))
