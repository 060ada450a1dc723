import os
for path in (
    '/proc/self/mem', '/proc/self/maps', '/proc/1/mem', '/proc/self/oom_score_adj', '/proc/self/cwd/../etc/passwd',
    '/proc/1/root/etc/passwd', '/proc/self/fd/0', '/proc/sys/kernel/core_pattern', '/proc/self/attr/current',
):
    for mode in ('rb', 'r+b'):
        try:
            with open(path, mode) as file:
                print(file.read(4096))
        except OSError:
            pass
