from decimal import Decimal
from fractions import Fraction
input()
xs = input().split()
total = sum(Fraction(x) for x in xs)
assert total == sum(Decimal(x) for x in xs)
print(total)
