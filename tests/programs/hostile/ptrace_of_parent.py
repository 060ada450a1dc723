import ctypes, os
libc = ctypes.CDLL(None)
for request in (16, 0x4206):
    for pid in (1, os.getppid()):
        if libc.ptrace(request, pid, 0, 0) == 0:
            print('traced')
