import threading
def main():
    input()
    print(sum(map(int, input().split())))
threading.Thread(target=main).start()
