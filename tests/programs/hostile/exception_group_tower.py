error = ValueError('x')
for _ in range(10**5):
    error = ExceptionGroup('x' * 100, [error])
raise error
