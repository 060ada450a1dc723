#include <cstdint>
#include <iostream>
int main() {
    __int128 total = 0, shift = (__int128)1 << 100;
    int64_t n, x;
    std::cin >> n;
    while (n-- > 0) {
        std::cin >> x;
        total += shift + x;
        shift = shift;
    }
    std::cout << (long long)(total & (((__int128)1 << 64) - 1)) << '\n';
}
