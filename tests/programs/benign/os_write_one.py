import os
n = input()
os.write(1, str(sum(map(int, input().split()))).encode())
