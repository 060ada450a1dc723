int down(volatile int* p) {
    volatile int x = *p + 1;
    return down(&x) + x;
}
int main() {
    volatile int x = 0;
    return down(&x);
}
