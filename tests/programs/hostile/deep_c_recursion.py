import sys
sys.setrecursionlimit(10**9)
class Deep:
    def __getattr__(self, name):
        return getattr(self, name + 'x')
x = None
for _ in range(10**6):
    x = (x,)
repr(x)
hash(x)
