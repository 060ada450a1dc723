import os, signal
for number in (signal.SIGSTOP, signal.SIGTSTP):
    for stop in (lambda: os.kill(os.getpid(), number), lambda: signal.raise_signal(number)):
        try:
            stop()
        except OSError:
            pass
