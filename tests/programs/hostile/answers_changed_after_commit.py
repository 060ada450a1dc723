import mmap, os, threading
print(' ' * 4096, flush=True)
view = mmap.mmap(1, 4096)
def rewrite():
    while True:
        view[:8] = b'alphamix'
threading.Thread(target=rewrite, daemon=True).start()
