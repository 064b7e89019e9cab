// pthread_cancel in each blocking call and one that never blocks: clean-up handlers run, the thread ends as cancelled.
#include "session.h"
#include <pthread.h>
#include <sys/epoll.h>

static struct session s;
static int listener, pipes[2], epoll;
static volatile int ready, cleaned, strange;
static void clean_up(void *unused) { (void)unused; cleaned++; }
static void *block(void *how) {
    char byte;
    struct pollfd wanted = {.fd = s.server, .events = POLLIN};
    struct epoll_event event;
    pthread_cleanup_push(clean_up, NULL);
    // The first way, before anybody was cancelled. Only the cancellation ends this loop.
    for (; how == (void *)0; ready = 1, errno = 0) strange += recv(s.server, &byte, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN;
    ready = 1;
    if (how == (void *)5) recv(s.server, &byte, 1, 0);
    if (how == (void *)1) (void)!read(pipes[0], &byte, 1);
    if (how == (void *)2) poll(&wanted, 1, -1);
    if (how == (void *)3) accept(listener, NULL, NULL);
    if (how == (void *)4) epoll_wait(epoll, &event, 1, -1);
    pthread_cleanup_pop(0);
    return how;
}

int main(void) {
    s = open_session();
    MUST(pipe(pipes) == 0 && (epoll = epoll_create1(0)) >= 0);
    MUST((listener = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && listen(listener, 1) == 0);
    void *end; pthread_t thread;
    for (long how = 0; how < 6; how++, ready = 0) {
        MUST(pthread_create(&thread, NULL, block, (void *)how) == 0);
        while (!ready) usleep(1000);
        MUST(pthread_cancel(thread) == 0 && pthread_join(thread, &end) == 0);
        printf("way %ld: cancelled %d, cleaned up %d, %d strange\n", how, end == PTHREAD_CANCELED, cleaned, strange);
        query(s);
    }
    return ends_well();
}
