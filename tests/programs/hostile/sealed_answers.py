import fcntl
for descriptor in range(64):
    for command, argument in ((fcntl.F_ADD_SEALS, 0xF), (fcntl.F_SETLEASE, fcntl.F_WRLCK), (fcntl.F_NOTIFY, 1 << 31)):
        try:
            fcntl.fcntl(descriptor, command, argument)
        except OSError:
            pass
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pass
