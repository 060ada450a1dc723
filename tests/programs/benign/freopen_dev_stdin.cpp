#include <cstdio>
int main() {
    if (!freopen("/dev/stdin", "r", stdin)) return 1;
    int n, x, sum = 0;
    scanf("%d", &n);
    while (n-- && scanf("%d", &x) == 1) sum += x;
    printf("%d\n", sum);
}
