/* Sets back the wall clock of one process: LD_PRELOAD of the agent whose clock is wrong.

   The file that OPENMG_FAULTS_CLOCK names holds one double, in seconds, which is taken off what clock_gettime (REALTIME),
   gettimeofday and time say. It is mapped, so that a test changes it while the process runs. Other clocks are left alone, as
   they are by who sets a clock. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile double *back;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("OPENMG_FAULTS_CLOCK");
    int file = name ? open(name, O_RDONLY) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) back = page;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *at) {
    int code = (int)syscall(SYS_clock_gettime, id, at);
    if (code == 0 && id == CLOCK_REALTIME && back) {
        double off = *back;
        time_t whole = (time_t)off;
        at->tv_sec -= whole;
        at->tv_nsec -= (long)((off - (double)whole) * 1e9);
        if (at->tv_nsec < 0) {
            at->tv_nsec += 1000000000L;
            at->tv_sec -= 1;
        }
    }
    return code;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    int code = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return code;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
