def add(*numbers):
    match numbers:
        case ():
            return 0
        case (first, *rest):
            return first + add(*rest)
input()
print(add(*map(int, input().split())))
