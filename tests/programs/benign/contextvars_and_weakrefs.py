import contextvars, weakref
class Box(list):
    pass
input()
box = Box(map(int, input().split()))
reference = weakref.ref(box)
variable = contextvars.ContextVar('numbers')
variable.set(reference)
print(sum(contextvars.copy_context()[variable]()))
