import __main__
total = 0
input()
__main__.total = sum(map(int, input().split()))
print(total)
