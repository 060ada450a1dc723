import logging
logging.basicConfig(level=logging.DEBUG)
input()
numbers = [int(x) for x in input().split()]
logging.debug('numbers: %s', numbers)
print(sum(numbers))
