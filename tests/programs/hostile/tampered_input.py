import mmap, os
for attempt in (
    lambda: os.write(0, b'x'), lambda: os.ftruncate(0, 0), lambda: os.truncate(0, 1 << 40),
    lambda: mmap.mmap(0, 4096), lambda: open('/proc/self/fd/0', 'w'), lambda: os.chmod('/dev/fd/0', 0o777),
):
    try:
        attempt()
    except (OSError, ValueError):
        pass
