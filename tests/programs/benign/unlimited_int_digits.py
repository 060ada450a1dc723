import sys
sys.set_int_max_str_digits(0)
big = str(7 ** 20000)
input()
print(sum(map(int, input().split())) + len(big) - len(big))
