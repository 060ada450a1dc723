import gc
for thing in gc.get_objects():
    try:
        text = repr(thing)
    except Exception:
        continue
    if ''.join(('alphamix', '-', 'canary')) in text:
        print(text)
