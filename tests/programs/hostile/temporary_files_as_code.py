import ctypes, mmap, os, sys
try:
    with open('/tmp/alphamix-hostile', 'wb') as file:
        file.write(open(sys.modules['_ctypes'].__file__, 'rb').read())
    os.mknod('/tmp/alphamix-hostile-device', 0o20777, os.makedev(1, 1))
except (OSError, AttributeError):
    pass
for attempt in (
    lambda: ctypes.CDLL('/tmp/alphamix-hostile'),
    lambda: os.execv('/tmp/alphamix-hostile', ['x']),
    lambda: mmap.mmap(os.open('/tmp/alphamix-hostile', os.O_RDWR), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    lambda: os.symlink('/etc/passwd', '/tmp/alphamix-hostile-link'),
    lambda: os.link('/etc/passwd', '/tmp/alphamix-hostile-link'),
    lambda: os.rename('/tmp', '/alphamix-hostile'),
    lambda: os.rmdir('/tmp'),
    lambda: os.rename('/dev/null', '/tmp/alphamix-hostile-null'),
    lambda: os.unlink(os.__file__),
):
    try:
        attempt()
    except OSError:
        pass
    else:
        print('alphamix-canary')
