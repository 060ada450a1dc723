import sys
print('debug', file=sys.stderr)
input()
sys.stderr.write('x' * 100000)
print(sum(map(int, input().split())))
