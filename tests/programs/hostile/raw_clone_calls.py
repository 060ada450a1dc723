import ctypes
libc = ctypes.CDLL(None)
for call in (57, 58, 56, 435):
    if libc.syscall(call, 17, 0, 0, 0, 0) == 0:
        while True:
            pass
