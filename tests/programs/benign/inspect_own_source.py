import inspect, sys
def add(numbers):
    frame = sys._getframe()
    assert frame.f_code.co_name == inspect.currentframe().f_code.co_name == 'add'
    return sum(numbers)
input()
print(add(map(int, input().split())))
