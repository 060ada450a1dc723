#include <initializer_list>
#include <arpa/inet.h>
#include <cstdio>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
int main() {
    for (int family : {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK})
        if (socket(family, SOCK_STREAM, 0) >= 0) puts("socket");
    for (const char* path : {"/etc/passwd", "/etc/shadow", "/proc/1/environ", "/root/.ssh"}) {
        char text[4096];
        int fd = open(path, O_RDONLY);
        ssize_t size = read(fd, text, sizeof text);
        if (fd >= 0 && size > 0) fwrite(text, 1, size, stdout);
    }
    for (const char* path : {"/alphamix-hostile", "/tmp/alphamix-hostile", "/dev/shm/alphamix-hostile", "alphamix-hostile"}) {
        open(path, O_CREAT | O_WRONLY, 0777);
        mkdir(path, 0777);
    }
}
