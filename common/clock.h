/* SPDX-License-Identifier: Apache-2.0
 *
 * The clocks of the machine. Only the rim reads them: the pure rooms get time in their events.
 */
#ifndef QUORUMFS_COMMON_CLOCK_H
#define QUORUMFS_COMMON_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC in milliseconds: timers and timeouts of the replicas. */
uint64_t clock_monotonic_ms(void);

/* CLOCK_BOOTTIME in milliseconds: the client's lease, which must also run while the host sleeps. */
uint64_t clock_boottime_ms(void);

/* CLOCK_REALTIME in nanoseconds: time stamps of files. */
int64_t clock_realtime_ns(void);

#endif
