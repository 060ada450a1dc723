import fcntl, os
while True:
    try:
        read, write = os.pipe()
        fcntl.fcntl(write, 1031, 1 << 20)
    except OSError:
        break
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b'x' * 65536)
    except OSError:
        pass
while True:
    pass
