import ctypes, os
libc = ctypes.CDLL(None)
small = ctypes.c_int(1)
for descriptor in range(3, 64):
    for option in (7, 8, 20, 21, 16):
        libc.setsockopt(descriptor, 1, option, ctypes.byref(small), 4)
    libc.shutdown(descriptor, 2)
    libc.bind(descriptor, b'\1\0alphamix-hostile', 18)
    libc.listen(descriptor, 1)
