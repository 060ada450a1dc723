import os
for path in ('/etc/passwd', '/etc/shadow', '/root', '/home', '/proc/self/environ', '/sys', '/dev', '/srv'):
    try:
        print(os.listdir(path) if os.path.isdir(path) else open(path).read())
    except OSError:
        pass
