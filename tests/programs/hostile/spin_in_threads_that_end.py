import threading, time
def spin():
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
while True:
    thread = threading.Thread(target=spin)
    thread.start()
    thread.join()
