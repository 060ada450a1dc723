import ctypes
buffer = ctypes.create_string_buffer(4096)
if ctypes.CDLL(None).syscall(425, 8, buffer) >= 0:
    print('ring')
