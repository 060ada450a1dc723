import os
block = [b'x' * 65536] * 512
while True:
    os.writev(1, block)
    os.pwritev(1, block, 1 << 23)
