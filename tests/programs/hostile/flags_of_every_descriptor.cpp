#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>
int main() {
    int on = 1;
    for (int fd = 0; fd < 64; fd++) {
        fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND);
        ioctl(fd, FIONBIO, &on);
        ioctl(fd, FIOASYNC, &on);
        write(fd, "0 0 ", 4);
        lseek(fd, 0, SEEK_END);
    }
    close_range(0, 63, 0);
    _exit(0);
}
