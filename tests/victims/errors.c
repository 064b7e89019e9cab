// Every hooked call's failures and what successes leave in errno.
#include "session.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#define SAY(call) do { errno = 77; int failed = (call) < 0; printf("%s: %d, errno %d\n", #call, failed, errno); } while (0)

int main(void) {
    char byte = 0;
    void *volatile bad = (void *)8, *volatile none = NULL;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct timespec now = {0, 0};
    struct session s = open_session();
    SAY(recv(-1, &byte, 1, 0)); SAY(recv(s.server, &byte, 1, MSG_DONTWAIT)); SAY(recv(s.server, bad, 4, MSG_DONTWAIT));
    SAY(recvfrom(0, &byte, 1, MSG_DONTWAIT, NULL, NULL)); SAY(recvmsg(-1, &message, 0)); SAY(sendmsg(-1, &message, 0));
    SAY(read(-1, &byte, 1)); SAY(readv(-1, &part, 1)); SAY(write(-1, &byte, 1)); SAY(writev(-1, &part, 1));
    SAY(send(-1, &byte, 1, 0)); SAY(sendto(1000000, &byte, 1, 0, NULL, 0)); SAY(write(s.server, bad, 1));
    SAY(poll(bad, 1, 0)); SAY(poll(none, 0, 0)); SAY(ppoll(none, 0, &now, NULL));
    SAY(epoll_wait(-1, bad, 1, 0)); SAY(epoll_ctl(-1, EPOLL_CTL_ADD, 0, NULL)); SAY(accept(-1, NULL, NULL));
    SAY(accept4(s.server, NULL, NULL, 0)); SAY(accept4(s.server, NULL, NULL, -1)); SAY(connect(-1, none, 0));
    SAY(close(-1)); SAY(shutdown(-1, SHUT_RD)); SAY(dup(-1)); SAY(dup2(-1, 9)); SAY(dup3(s.server, s.server, 0));
    SAY(send(s.client, "\1\0\0\0\x0e", 5, 0)); SAY(recv(s.server, &byte, 1, 0)); SAY(dup2(s.server, s.server));
    SAY(write(s.server, &byte, 0)); SAY(close_range(9, 8, 0)); SAY(send(s.server, bad, 4, MSG_DONTWAIT));
    SAY(send(s.client, "\1\0\0\0\x0e", 5, 0)); SAY(recv(s.server, bad, 4, MSG_DONTWAIT)); SAY(close(s.client));
    SAY(close(s.client)); SAY(shutdown(s.server, SHUT_WR)); SAY(send(s.server, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
    SAY(send(s.server, &byte, 1, MSG_NOSIGNAL)); SAY(recv(s.server, &byte, 1, MSG_OOB));
    return ends_well();
}
