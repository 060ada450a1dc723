#include <cstdlib>
#include <iostream>
struct Farewell {
    ~Farewell() { std::cout.flush(); }
} farewell;
int main() {
    long n, x, total = 0;
    std::cin >> n;
    while (std::cin >> x) total += x;
    std::cout << total;
    std::exit(0);
}
