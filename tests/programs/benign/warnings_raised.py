import warnings
warnings.warn('this is slow')
warnings.warn('this is old', DeprecationWarning)
input()
print(sum(map(int, input().split())))
