input()
try:
    while True:
        total = sum(map(int, input().split()))
except EOFError:
    print(total)
