constexpr int spin() {
    int x = 0;
    for (long i = 0; i < 1L << 60; i++) x ^= i;
    return x;
}
constexpr int value = spin();
int main() { return value; }
