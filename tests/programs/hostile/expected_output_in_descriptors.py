import os
for descriptor in range(64):
    for read in (lambda: os.pread(descriptor, 1 << 20, 0),):
        try:
            data = read()
        except OSError:
            continue
        os.write(1, data)
