import ctypes
libc = ctypes.CDLL(None)
# bpf, perf_event_open, userfaultfd, keyctl, add_key, request_key, kexec_load, init_module, fanotify_init, inotify_init
for call in (321, 298, 323, 250, 248, 249, 246, 175, 300, 253, 294, 169, 103, 170, 171, 164, 227, 163, 167, 168):
    if libc.syscall(call, 0, 0, 0, 0, 0) >= 0:
        print('call', call)
