import ctypes
libc = ctypes.CDLL(None)
input()
print(sum(libc.abs(int(x)) for x in input().split()))
