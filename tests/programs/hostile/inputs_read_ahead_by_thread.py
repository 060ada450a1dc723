import os, threading, time
seen = []
def look_ahead():
    while True:
        for descriptor in range(64):
            try:
                seen.append(os.pread(descriptor, 4096, 0))
            except OSError:
                pass
        del seen[:-100]
        time.sleep(0.001)
threading.Thread(target=look_ahead, daemon=True).start()
print(seen)
