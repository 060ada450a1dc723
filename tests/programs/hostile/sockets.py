import socket
for family, address in (
    (socket.AF_INET, ('127.0.0.1', 22)), (socket.AF_INET6, ('::1', 22)),
    (socket.AF_UNIX, '/run/docker.sock'), (socket.AF_UNIX, '\0alphamix-hostile'),
):
    try:
        connection = socket.socket(family)
        connection.connect(address)
        print('connected')
    except OSError:
        pass
left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
left.sendto(b'x', '/dev/log')
