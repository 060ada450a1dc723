n = input()
print(sum(map(int, input().split())), end='', flush=True)
