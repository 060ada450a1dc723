import ctypes, os
for name in range(100):
    try:
        descriptor = os.memfd_create(str(name))
        os.write(descriptor, b'x' * (1 << 24))
    except OSError:
        pass
shm = ctypes.CDLL(None).shmget(0, 1 << 30, 0o1777)
print(shm)
