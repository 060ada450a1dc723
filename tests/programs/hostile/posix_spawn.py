import os
os.posix_spawn('/bin/sh', ['sh', '-c', 'touch /tmp/alphamix-hostile'], {})
