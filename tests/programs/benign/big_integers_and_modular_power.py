input()
numbers = [int(x) for x in input().split()]
modulus = 2 ** 127 - 1
assert all(pow(pow(n, -1, modulus), -1, modulus) == n for n in numbers)
print(sum(n * 10 ** 2000 for n in numbers) // 10 ** 2000)
