#include <iostream>
int main() {
    std::ios::sync_with_stdio(false);
    std::cin.tie(nullptr);
    long long n, x, total = 0;
    std::cin >> n;
    while (n-- && std::cin >> x) total += x;
    std::cout << total << '\n';
}
