import sys
input()
Σ = sum(map(int, input().split()))
print('größe', '日本', file=sys.stderr)
print(f'{Σ}')
