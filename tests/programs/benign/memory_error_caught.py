try:
    xs = bytearray(1 << 40)
except MemoryError:
    pass
input()
print(sum(map(int, input().split())))
