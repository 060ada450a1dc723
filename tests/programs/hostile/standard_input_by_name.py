import mmap, os
for attempt in (
    lambda: open('/dev/stdin', 'w').write('0'),
    lambda: open('/dev/stdin', 'r+b').write(b'0'),
    lambda: os.truncate('/dev/stdin', 0),
    lambda: os.unlink('/dev/stdin'),
    lambda: os.rename('/dev/stdin', '/tmp/alphamix-hostile'),
    lambda: os.chmod('/dev/stdin', 0o777),
    lambda: mmap.mmap(os.open('/dev/stdin', os.O_RDWR), 1),
    lambda: mmap.mmap(os.open('/dev/stdin', os.O_RDONLY), 1, prot=mmap.PROT_WRITE),
):
    try:
        attempt()
    except (OSError, ValueError):
        pass
    else:
        print('alphamix-canary')
