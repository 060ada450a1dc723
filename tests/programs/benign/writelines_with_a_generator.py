import sys
sys.stdin.readline()
numbers = map(int, sys.stdin.readline().split())
sys.stdout.writelines(f'{x}\n' for x in [sum(numbers)])
