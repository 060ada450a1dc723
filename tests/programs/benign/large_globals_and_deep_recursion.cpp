#include <cstdio>
static long long table[1 << 23];
static long long add(int i, int n) {
    volatile char frame[64];
    frame[0] = 1;
    return i == n ? 0 : add(i + 1, n) + table[i] * frame[0];
}
static int down(int depth) { return depth == 0 ? 0 : 1 + down(depth - 1) * (depth % 2 + 1) % 2; }
int main() {
    int n;
    scanf("%d", &n);
    for (int i = 0; i < n; i++) scanf("%lld", table + i);
    if (down(200000) < 0) return 1;
    printf("%lld\n", add(0, n));
}
