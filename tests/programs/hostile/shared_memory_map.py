import mmap
maps = []
while True:
    view = mmap.mmap(-1, 1 << 24)
    view.write(b'x' * (1 << 24))
    maps.append(view)
