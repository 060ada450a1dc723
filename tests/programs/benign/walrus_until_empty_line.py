import sys
total = 0
lines = iter(sys.stdin)
next(lines)
while (line := next(lines, '')):
    total += sum(map(int, line.split()))
print(total)
