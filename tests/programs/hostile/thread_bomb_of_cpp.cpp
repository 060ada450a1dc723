#include <pthread.h>
#include <unistd.h>
static void* spin(void*) {
    for (;;) {}
}
int main() {
    pthread_t thread;
    for (;;) pthread_create(&thread, nullptr, spin, nullptr);
}
