// Destructors of thread-specific data use a session when the thread's own storage is being torn down.
#include "session.h"
#include <pthread.h>

static pthread_key_t key;
static volatile int destroyed;

static void destroy(void *round) {
    struct session s = open_session();
    query(s);
    close(s.server);
    close(s.client);
    destroyed++;
    // Set again: glibc calls destructors for four rounds, ours must still work in the last.
    if ((long)round < 4) pthread_setspecific(key, (void *)((long)round + 1));
}

static void *thread(void *unused) {
    struct session s = open_session();
    query(s);
    pthread_setspecific(key, (void *)1L);
    return unused;
}

int main(void) {
    MUST(pthread_key_create(&key, destroy) == 0);
    for (int i = 0; i < 50; i++) {
        pthread_t one;
        MUST(pthread_create(&one, NULL, thread, NULL) == 0 && pthread_join(one, NULL) == 0);
    }
    printf("%d destructors\n", destroyed);
    return ends_well();
}
