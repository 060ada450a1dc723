#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
int main() {
    std::string line;
    std::getline(std::cin, line);
    std::getline(std::cin, line);
    std::stringstream words(line);
    long total = 0;
    try {
        for (std::string word; words >> word;) total += std::stol(word);
        throw std::runtime_error("done");
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        std::cout << total << std::endl;
    }
}
