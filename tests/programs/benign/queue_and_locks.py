import queue, threading
todo, lock, total = queue.Queue(), threading.Lock(), 0
def work():
    global total
    while (number := todo.get()) is not None:
        with lock:
            total += number
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
input()
for number in input().split():
    todo.put(int(number))
for _ in threads:
    todo.put(None)
for thread in threads:
    thread.join()
print(total)
