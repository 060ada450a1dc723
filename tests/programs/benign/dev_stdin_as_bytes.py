import os
descriptor = os.open('/dev/stdin', os.O_RDONLY)
print(sum(map(int, os.read(descriptor, 1 << 16).split()[1:])))
