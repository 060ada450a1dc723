# entry_point: solve
def solve(x):
    value = []
    for _ in range(900):
        value = [value]
    return value
