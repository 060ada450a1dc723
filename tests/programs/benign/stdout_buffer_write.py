import sys
n = input()
sys.stdout.buffer.write(b'%d\n' % sum(map(int, input().split())))
