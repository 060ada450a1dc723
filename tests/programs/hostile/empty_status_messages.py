import socket
for descriptor in range(3, 64):
    try:
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor).send(b'')
    except OSError:
        pass
