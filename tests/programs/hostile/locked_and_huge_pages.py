import ctypes, mmap
libc = ctypes.CDLL(None)
libc.mlockall(7)
view = mmap.mmap(-1, 1 << 30)
view.madvise(14)
libc.mlock(ctypes.addressof(ctypes.c_char.from_buffer(view)), 1 << 30)
for page in range(0, 1 << 30, 4096):
    view[page] = 1
