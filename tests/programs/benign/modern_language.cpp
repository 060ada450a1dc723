#include <array>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <tuple>
int main() {
    std::map<int, int> count;
    int n;
    std::cin >> n;
    for (int x; std::cin >> x;) ++count[x];
    std::function<long(long, int)> times = [](auto a, auto b) { return a * b; };
    std::optional<long> total;
    for (const auto& [value, number] : count) total = total.value_or(0) + times(value, number);
    if (auto answer = total; answer) std::cout << *answer << "\n";
}
