import pickle
class Point:
    def __init__(self, x):
        self.x = x
input()
points = [pickle.loads(pickle.dumps(Point(int(x)))) for x in input().split()]
print(sum(point.x for point in points))
