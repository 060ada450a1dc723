import sys
input()
print('nothing', file=open('/dev/null', 'w'))
print('chatter', file=open('/dev/stderr', 'w'))
assert open('/dev/null').read() == '' and len(open('/dev/urandom', 'rb').read(8)) == 8
with open('/dev/stdout', 'w') as out:
    print(sum(map(int, input().split())), file=out)
