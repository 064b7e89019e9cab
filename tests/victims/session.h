// Both ends of a session in one thread: what a server's hooks see, without a server. Included by victims.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MUST(what) do { if (!(what)) { printf("failed: %s, errno %d\n", #what, errno); fflush(stdout); _exit(97); } } while (0)

struct session { int server, client; };

// A connection over the loopback; the server's end is accepted with these flags.
static inline struct session connected(int flags) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct session s;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(bind(listener, (void *)&address, length) == 0 && listen(listener, 8) == 0);
    MUST(getsockname(listener, (void *)&address, &length) == 0);
    MUST((s.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    MUST(connect(s.client, (void *)&address, length) == 0);
    MUST((s.server = accept4(listener, NULL, NULL, SOCK_CLOEXEC | flags)) >= 0);
    close(listener);
    return s;
}

// A MySQL session, logged in.
static inline struct session open_session(void) {
    static const char greeting[] = "\x53\0\0\0\x0a" "10.11.4-MariaDB\0" "\x11\0\0\0" "abcdefgh\0" "\xfe\xf7\x08\x02\0\xff\x81\x15"
                                   "\0\0\0\0\0\0\0\0\0\0" "ijklmnopqrst\0" "mysql_native_password";
    static const char login[] = "\x28\0\0\1\x05\xa2\0\0\0\0\0\1\x08" "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" "victim\0" "\0";
    static const char ok[] = "\7\0\0\2\0\0\0\2\0\0\0";
    struct session s = connected(0);
    char buffer[128];
    MUST(send(s.server, greeting, sizeof greeting, 0) == sizeof greeting);
    MUST(send(s.client, login, sizeof login - 1, 0) == sizeof login - 1);
    MUST(recv(s.server, buffer, 4, MSG_WAITALL) == 4 && recv(s.server, buffer, sizeof login - 5, MSG_WAITALL) > 0);
    MUST(send(s.server, ok, sizeof ok - 1, 0) == sizeof ok - 1);
    MUST(recv(s.client, buffer, sizeof greeting + sizeof ok - 1, MSG_WAITALL) > 0);
    return s;
}

// Waits until something is there to be read, without a call that anybody overrides or that a thread is cancelled in.
static inline void await(int fd) {
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    while (syscall(SYS_ppoll, &wanted, 1, NULL, NULL, 0) != 1) MUST(errno == EINTR);
}

// One COM_QUERY of 17 bytes and its OK, with calls that don't wait, as MariaDB makes them.
static inline void query(struct session s) {
    static const char command[] = "\x12\0\0\0\x03" "SELECT 4711 AS n1", ok[] = "\7\0\0\1\0\0\0\2\0\0\0";
    char buffer[64];
    MUST(send(s.client, command, 22, 0) == 22);
    await(s.server);
    MUST(recv(s.server, buffer, 4, MSG_DONTWAIT) == 4 && recv(s.server, buffer, 18, MSG_DONTWAIT) == 18);
    MUST(memcmp(buffer, command + 4, 18) == 0);
    MUST(send(s.server, ok, 11, MSG_DONTWAIT) == 11);
    MUST(recv(s.client, buffer, 11, MSG_WAITALL) == 11 && memcmp(buffer, ok, 11) == 0);
}

// The success marker, last.
static inline int ends_well(void) { puts("victim ends well"); fflush(stdout); return 0; }
