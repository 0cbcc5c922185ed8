/* SPDX-License-Identifier: Apache-2.0
 *
 * The clocks of the machine, for the loops and the mounts. The only caller of clock_gettime.
 */
#include "common/clock.h"

#include <time.h>

#include "common/check.h"

static struct timespec now(clockid_t clock)
{
    struct timespec time = {0};

    /* Fails only for a clock that the kernel does not know. */
    CHECK(clock_gettime(clock, &time) == 0);
    return time;
}

static uint64_t now_ms(clockid_t clock)
{
    struct timespec time = now(clock);

    return (uint64_t)time.tv_sec * 1000u + (uint64_t)time.tv_nsec / 1000000u;
}

uint64_t clock_monotonic_ms(void)
{
    return now_ms(CLOCK_MONOTONIC);
}

uint64_t clock_boottime_ms(void)
{
    return now_ms(CLOCK_BOOTTIME);
}

int64_t clock_realtime_ns(void)
{
    struct timespec time = now(CLOCK_REALTIME);

    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}
