/* What the load has done, and how long it took: a clock, counters, and a histogram. */

#include <time.h>

#define STEPS 64 /* of the histogram: it tells 32 apart between powers of two */

static struct {
    uint64_t operations, bytes, lost, histogram[64 * STEPS];
} counted;

static uint64_t clock_now(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static uint64_t now(void)
{
    return clock_now(CLOCK_MONOTONIC);
}

/* Remember how long something took, to one part in 32. */
static void record(uint64_t took)
{
    int power = took < STEPS ? 0 : 63 - __builtin_clzll(took) - 5;
    counted.histogram[power * STEPS + (took >> power)]++;
    counted.operations++;
}

/* Microseconds that *share* of all took at most. */
static double percentile(double share)
{
    uint64_t seen = 0, wanted = counted.operations * share;
    for (int i = 0; i < 64 * STEPS; i++) {
        seen += counted.histogram[i];
        if (seen > wanted) {
            int power = i / STEPS;
            return ((uint64_t)(i % STEPS) << power) / 1e3;
        }
    }
    return 0;
}
