#include <cstdlib>
#include <unistd.h>
int main() {
    std::system("touch /tmp/alphamix-hostile; sleep 100 &");
    execl("/bin/sh", "sh", "-c", "touch /tmp/alphamix-hostile", nullptr);
    char* arguments[] = {nullptr};
    for (int fd = 0; fd < 64; fd++) fexecve(fd, arguments, arguments);
}
