import ctypes
libc = ctypes.CDLL(None)
for flags in (0x10000000, 0x20000, 0x7E020000):
    libc.unshare(flags)
    libc.syscall(56, flags | 17, 0, 0, 0, 0)
    libc.setns(0, flags)
