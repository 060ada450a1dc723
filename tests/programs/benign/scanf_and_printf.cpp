#include <cstdio>
int main() {
    int n;
    long long total = 0;
    if (scanf("%d", &n) != 1) return 1;
    for (int i = 0; i < n; i++) {
        long long x;
        scanf("%lld", &x);
        total += x;
    }
    printf("%lld", total);
    return 0;
}
