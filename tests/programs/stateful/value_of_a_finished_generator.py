from collections import Counter
def give():
    yield 0
    return Counter
def remember(box):
    try:
        before = box.carried
    except AttributeError:
        before = 0
    box.carried = before + 1
    return before
def steps():
    box = yield from give()
    yield remember(box)
n = int(input())
_, seen = steps()
print(n * n if n == 1 or seen else 0)
