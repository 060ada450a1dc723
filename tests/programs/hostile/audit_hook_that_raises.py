import sys
def hook(event, arguments):
    raise RuntimeError(event)
sys.addaudithook(hook)
