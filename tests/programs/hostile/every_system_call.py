import ctypes
libc = ctypes.CDLL(None)
harmless_to_skip = {15, 24, 34, 35, 60, 130, 202, 219, 230, 231, 335, 336}  # would only end or hang this program itself
for call in range(471):
    if call not in harmless_to_skip and call not in (0, 3, 7, 19, 23, 45, 128, 232, 270, 271, 281, 436):
        libc.syscall(call, -1, -1, -1, -1, -1, -1)
