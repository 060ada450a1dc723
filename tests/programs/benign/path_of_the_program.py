import os, sys
local = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'input.txt')
if os.path.exists(local):
    sys.stdin = open(local)
input()
print(sum(map(int, input().split())))
