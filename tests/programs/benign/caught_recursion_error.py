def forever(n):
    return forever(n + 1)
try:
    forever(0)
except RecursionError:
    pass
input()
print(sum(map(int, input().split())))
