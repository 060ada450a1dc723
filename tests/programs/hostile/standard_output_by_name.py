import os, sys, threading, time
def later():
    while True:
        for text in ('first', 'second'):
            with open('/dev/stdout', 'w') as out:
                out.write(text * 1000)
threading.Thread(target=later, daemon=True).start()
print(input())
