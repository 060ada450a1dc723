#include <cstdio>
static int read_number() {
    int c = getchar(), x = 0;
    while (c < '0') c = getchar();
    for (; c >= '0'; c = getchar()) x = x * 10 + c - '0';
    return x;
}
int main() {
    int n = read_number(), total = 0;
    while (n--) total += read_number();
    char text[16];
    int length = 0;
    do text[length++] = '0' + total % 10; while (total /= 10);
    while (length) putchar(text[--length]);
    putchar('\n');
}
