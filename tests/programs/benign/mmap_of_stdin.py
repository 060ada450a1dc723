import mmap
with mmap.mmap(0, 0, access=mmap.ACCESS_READ) as view:
    data = view.read().split()
print(sum(map(int, data[1:])))
