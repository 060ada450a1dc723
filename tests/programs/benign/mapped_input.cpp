#include <sys/mman.h>
#include <sys/stat.h>
#include <cstdio>
#include <cstdlib>
int main() {
    struct stat about;
    fstat(0, &about);
    char* p = (char*)mmap(nullptr, about.st_size + 1, PROT_READ, MAP_PRIVATE, 0, 0);
    char* end;
    long n = strtol(p, &end, 10), total = 0;
    while (n--) total += strtol(end, &end, 10);
    printf("%ld\n", total);
}
