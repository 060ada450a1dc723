import sys
data = sys.stdin.read().split()
sys.stdin.close()
print(sum(map(int, data[1:])))
sys.stdout.close()
