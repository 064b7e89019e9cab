// Only the library it is linked with (or that is preloaded) does something, in its constructor and destructor.
int main(void) { return 0; }
