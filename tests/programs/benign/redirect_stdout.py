import contextlib, io
buffer = io.StringIO()
input()
with contextlib.redirect_stdout(buffer):
    print(*input().split(), sep='+')
print(eval(buffer.getvalue()))
