#include <csignal>
struct Spin {
    Spin() {
        for (int number = 1; number < 65; number++) signal(number, SIG_IGN);
        for (;;) {}
    }
} spin;
int main() {}
