import sys, threading
sys.setrecursionlimit(10**6)
threading.stack_size(64 << 20)
def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)
def main():
    input()
    print(sum(map(int, input().split())) + depth(20000) - 20000)
thread = threading.Thread(target=main)
thread.start()
thread.join()
