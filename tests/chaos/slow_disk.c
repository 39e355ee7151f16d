/* LD_PRELOAD: every fsync takes SLOW_MS longer while the file SLOW_FLAG exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void linger(void) {
    const char *flag = getenv("SLOW_FLAG"), *ms = getenv("SLOW_MS");
    if (flag && ms && access(flag, F_OK) == 0) usleep(1000 * atoi(ms));
}

int fsync(int fd) {
    linger();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    linger();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
