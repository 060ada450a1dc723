#include <atomic>
#include <iostream>
#include <thread>
#include <vector>
int main() {
    int n;
    std::cin >> n;
    std::atomic<long> total{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < n; i++) {
        long x;
        std::cin >> x;
        threads.emplace_back([&total, x] { total += x; });
    }
    for (auto& thread : threads) thread.join();
    std::cout << total << '\n';
}
