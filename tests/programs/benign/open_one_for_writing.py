n = input()
out = open(1, 'w')
out.write(str(sum(map(int, input().split()))))
