import array, struct
input()
numbers = array.array('q', map(int, input().split()))
view = memoryview(numbers).cast('B')
print(sum(struct.unpack(f'{len(numbers)}q', view)))
