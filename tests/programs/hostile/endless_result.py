# entry_point: solve
def solve(x):
    value = []
    value.append(value)
    return value
