import sys
sys.set_int_max_str_digits(0)
print(str(7 ** 10**7))
