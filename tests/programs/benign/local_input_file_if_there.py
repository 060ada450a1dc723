import os, sys
if os.path.exists('input.txt'):
    sys.stdin = open('input.txt')
input()
print(sum(map(int, input().split())))
