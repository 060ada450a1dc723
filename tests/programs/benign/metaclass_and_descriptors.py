class Registry(type):
    found = []
    def __new__(cls, name, bases, space):
        made = super().__new__(cls, name, bases, space)
        cls.found.append(made)
        return made
class Add(metaclass=Registry):
    @staticmethod
    def run(numbers):
        return sum(numbers)
input()
print(Registry.found[0].run(map(int, input().split())))
