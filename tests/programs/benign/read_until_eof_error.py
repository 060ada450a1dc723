lines = []
while True:
    try:
        lines.append(input())
    except EOFError:
        break
print(sum(map(int, lines[1].split())))
