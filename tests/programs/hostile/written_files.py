import os, sys, tempfile
places = ['/', '/tmp', '/var/tmp', '/dev/shm', '/run', os.path.expanduser('~'), os.getcwd(), os.path.dirname(os.__file__), sys.prefix]
for place in places:
    for attempt in (
        lambda path: open(path, 'w').write('x'), os.mkdir,
        lambda path: os.symlink('/etc/passwd', path), os.mkfifo,
    ):
        try:
            attempt(os.path.join(place, 'alphamix-hostile'))
        except OSError:
            pass
