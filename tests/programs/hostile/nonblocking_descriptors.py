import fcntl, os
for descriptor in range(64):
    try:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK | os.O_APPEND | os.O_ASYNC)
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getppid())
    except OSError:
        pass
