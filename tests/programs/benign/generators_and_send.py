def running():
    total = 0
    while True:
        value = yield total
        total += value
adder = running()
answer = next(adder)
input()
for number in input().split():
    answer = adder.send(int(number))
print(answer)
