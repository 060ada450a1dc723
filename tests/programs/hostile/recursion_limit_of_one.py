import sys
sys.setrecursionlimit(20)
def down():
    down()
down()
