// A library that counts the calls of recv and send that come to it, and says how many in the end.
#include <dlfcn.h>
#include <stdio.h>
#include <sys/socket.h>

static int received, sent;

ssize_t recv(int fd, void *buffer, size_t length, int flags) {
    received++;
    return ((ssize_t (*)(int, void *, size_t, int))dlsym(RTLD_NEXT, "recv"))(fd, buffer, length, flags);
}

ssize_t send(int fd, const void *buffer, size_t length, int flags) {
    sent++;
    return ((ssize_t (*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send"))(fd, buffer, length, flags);
}

__attribute__((destructor)) static void last(void) { printf("recv %d, send %d\n", received, sent); }
