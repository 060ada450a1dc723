import sys
def trace(frame, event, argument):
    if event == 'return' and frame.f_code.co_name == '_run_test':
        frame.f_locals.clear()
    for name in list(frame.f_locals):
        print(name, frame.f_locals[name])
    return trace
frame = sys._getframe()
while frame:
    frame.f_trace = trace
    frame = frame.f_back
sys.settrace(trace)
sys.setprofile(trace)
