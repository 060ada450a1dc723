def add(*args, start=0, **rest):
    assert not rest
    return sum(args, start)
_, numbers = input(), input().split()
print(add(*map(int, numbers), **{'start': 0}))
