pattern = '\d+'
import re
input()
print(sum(map(int, re.findall(pattern, input()))))
