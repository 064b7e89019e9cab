// Closes a library in every way a program may, and says what it saw. Argument: the library.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static int errors(void)
{
    return dlerror() != NULL;
}

int main(int argc, char **argv)
{
    void *first = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL), *second = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    int (*next)(void) = (int (*)(void))dlsym(second, "next_is_libc");
    printf("opened twice: %d, RTLD_NEXT from inside: %d\n", first == second, next());
    dlopen("/nowhere/at/all.so", RTLD_NOW);
    printf("closed once: %d, an old error is forgotten: %d\n", dlclose(first), !errors());
    printf("still usable: %d, still private: %d\n", next(), dlsym(RTLD_DEFAULT, "next_is_libc") == NULL);
    errors();
    printf("closed twice: %d, no error: %d\n", dlclose(second), !errors());
    printf("private after all: %d\n", dlsym(RTLD_DEFAULT, "next_is_libc") == NULL);
    void *program = dlopen(NULL, RTLD_NOW);
    printf("the program itself: %d %d\n", program != NULL, dlclose(program));
    void *apart = dlmopen(LM_ID_NEWLM, "libm.so.6", RTLD_NOW);
    printf("another namespace: %d %d\n", apart != NULL, apart ? dlclose(apart) : 1);
    for (int round = 0; round < 100; round++) {
        void *again = dlopen(argv[1], RTLD_NOW);
        if (!again || dlclose(again) != 0)
            printf("round %d fails: %s\n", round, dlerror());
    }
    puts("victim ends well");
    return argc != 2 || fflush(stdout);
}
