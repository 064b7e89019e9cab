// pthread_cancel in each blocking call: the clean-up handlers run, and the thread ends as cancelled.
#include "session.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

static struct session s;
static int listener, pipes[2], epoll;
static volatile int ready, cleaned;
static void clean_up(void *unused) { (void)unused; cleaned++; }
static void *block(void *how) {
    char byte;
    struct pollfd wanted = {.fd = s.server, .events = POLLIN};
    struct epoll_event event;
    pthread_cleanup_push(clean_up, NULL);
    ready = 1;
    if (how == (void *)0) recv(s.server, &byte, 1, 0);
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
    void *end;
    pthread_t thread;
    for (long how = 0; how < 5; how++, ready = 0) {
        MUST(pthread_create(&thread, NULL, block, (void *)how) == 0);
        while (!ready) usleep(1000);
        MUST(pthread_cancel(thread) == 0 && pthread_join(thread, &end) == 0);
        printf("way %ld: cancelled %d, cleaned up %d\n", how, end == PTHREAD_CANCELED, cleaned);
        query(s);
    }
    return ends_well();
}
