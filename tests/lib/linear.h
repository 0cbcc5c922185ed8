/* SPDX-License-Identifier: Apache-2.0
 *
 * Is a history of one register linearizable? For histories in which no value is written twice
 * (then it takes n log n; Gibbons and Korach, "Testing Shared Memories", 1997).
 *
 * The operations on one value are its cluster: the write and all reads that returned it. With f the
 * earliest end and s the latest begin in the cluster, the value must have been current from f to s
 * if f < s (a forward zone), and somewhere between s and f else (a backward zone). Linearizable are
 * the histories in which no two forward zones overlap, no backward zone lies within a forward one,
 * and nobody read a value before it was written.
 */
#ifndef QUORUMFS_TESTS_LINEAR_H
#define QUORUMFS_TESTS_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a write whose outcome is unknown. */
#define LINEAR_NEVER UINT64_MAX

struct linear_op {
    bool is_write;
    uint64_t value; /* 0: what was there at first, never written */
    uint64_t begin; /* any clock that all share; 0 < begin <= end */
    uint64_t end;   /* LINEAR_NEVER: unknown whether it took place (writes only) */
};

/* True: linearizable. Else `why` gets one sentence with the values. Sorts ops. Failed writes, which
 * surely did not take place, are left out by the caller. Needs memory for one zone a value; CHECKs
 * that it gets it, and that no value is written twice. */
bool linear_check(struct linear_op *ops, size_t count, char *why, size_t why_bytes);

#endif
