import sys
frame = sys._getframe()
while frame:
    for space in (frame.f_locals, frame.f_globals):
        for value in list(space.values()):
            if ''.join(('alphamix', '-', 'canary')) in repr(value):
                print(repr(value))
    frame = frame.f_back
