// A library that opens another one, and closes it in its destructor.
#include <dlfcn.h>
#include <unistd.h>

static void *other;

int next_is_libc(void)
{
    return dlsym(RTLD_NEXT, "getpid") == (void *)getpid || dlsym(RTLD_NEXT, "getpid") != NULL;
}

__attribute__((constructor)) static void loaded(void)
{
    other = dlopen("libresolv.so.2", RTLD_NOW);
    write(2, other ? "+" : "?", 1);
}

__attribute__((destructor)) static void unloaded(void)
{
    write(2, dlclose(other) == 0 ? "-" : "!", 1);
}
