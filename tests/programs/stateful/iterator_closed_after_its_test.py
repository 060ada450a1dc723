n = int(input())
class Steps:
    def __iter__(self): return self
    def __next__(self): return 1
    def close(self): print(9, end="")
def steps():
    yield from Steps()
print("" if n == 3 else n * n)
if n == 2:
    kept = steps()
    next(kept)
