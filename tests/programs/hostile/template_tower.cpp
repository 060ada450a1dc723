template <unsigned n> struct Tower {
    static const unsigned value = Tower<n + 1>::value + Tower<n + 2>::value;
};
int main() { return Tower<0>::value > 0; }
