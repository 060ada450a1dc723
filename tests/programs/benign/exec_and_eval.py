input()
exec('y = 1')
xs = input().split()
print(eval('+'.join(xs)) + y - 1)
