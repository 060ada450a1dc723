import sys
class Stream:
    def flush(self):
        while True:
            pass
    write = flush
sys.stdout = sys.stderr = sys.__stdout__ = Stream()
