/* SPDX-License-Identifier: Apache-2.0
 *
 * The checker of histories. Handed them by tests/cluster/history.c; test_linear.c shows that it
 * tells good ones from bad ones.
 */
#include "tests/lib/linear.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/check.h"

struct zone {
    uint64_t value;
    uint64_t from;
    uint64_t to;
    bool is_forward;
};

static int by_value(const void *a, const void *b)
{
    const struct linear_op *one = a;
    const struct linear_op *other = b;

    if (one->value != other->value) {
        return one->value < other->value ? -1 : 1;
    }
    return (int)other->is_write - (int)one->is_write; /* the write first */
}

static int by_from(const void *a, const void *b)
{
    const struct zone *one = a;
    const struct zone *other = b;

    if (one->from != other->from) {
        return one->from < other->from ? -1 : 1;
    }
    return 0;
}

/* The zone of the operations ops[0..count) on one value. False: it was read before it was written,
 * or never written. */
static bool make_zone(const struct linear_op *ops, size_t count, struct zone *out, char *why,
                      size_t why_bytes)
{
    uint64_t first_end = ops[0].end;
    uint64_t last_begin = ops[0].begin;

    if (ops[0].value == 0) {
        first_end = 0; /* it was written before everything */
        last_begin = 0;
    } else if (!ops[0].is_write) {
        (void)snprintf(why, why_bytes, "value %" PRIu64 " was read but never written",
                       ops[0].value);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        CHECK(ops[i].begin > 0 && ops[i].begin <= ops[i].end);
        CHECK(i == 0 || !ops[i].is_write);
        if (!ops[i].is_write && ops[0].value != 0 && ops[i].end < ops[0].begin) {
            (void)snprintf(why, why_bytes,
                           "value %" PRIu64 " was read until %" PRIu64
                           ", before its write began at %" PRIu64,
                           ops[0].value, ops[i].end, ops[0].begin);
            return false;
        }
        first_end = ops[i].end < first_end ? ops[i].end : first_end;
        last_begin = ops[i].begin > last_begin ? ops[i].begin : last_begin;
    }
    *out = first_end < last_begin
               ? (struct zone){ops[0].value, first_end, last_begin, /* is_forward */ true}
               : (struct zone){ops[0].value, last_begin, first_end, /* is_forward */ false};
    return true;
}

/* Zones sorted by their begin. */
static bool zones_fit(const struct zone *zones, size_t count, char *why, size_t why_bytes)
{
    const struct zone *forward = NULL; /* the newest one */

    for (size_t i = 0; i < count; i++) {
        const struct zone *zone = &zones[i];
        bool overlaps = forward != NULL && zone->is_forward && zone->from < forward->to;
        bool within = forward != NULL && !zone->is_forward && zone->from > forward->from &&
                      zone->to < forward->to;
        if (overlaps || within) {
            (void)snprintf(why, why_bytes,
                           "value %" PRIu64 " was current from %" PRIu64 " to %" PRIu64
                           ", but so was %" PRIu64 " at a time from %" PRIu64 " to %" PRIu64,
                           forward->value, forward->from, forward->to, zone->value, zone->from,
                           zone->to);
            return false;
        }
        if (zone->is_forward) {
            forward = zone;
        }
    }
    return true;
}

/* A write of unknown outcome that nobody has read need not have taken place. */
static bool is_mute(const struct linear_op *ops, size_t count)
{
    return count == 1 && ops[0].is_write && ops[0].end == LINEAR_NEVER;
}

bool linear_check(struct linear_op *ops, size_t count, char *why, size_t why_bytes)
{
    struct zone *zones = calloc(count + 1, sizeof(*zones));
    size_t zone_count = 0;
    bool good = true;

    CHECK(zones != NULL);
    qsort(ops, count, sizeof(*ops), by_value);
    for (size_t from = 0, to = 0; from < count && good; from = to) {
        to = from + 1;
        while (to < count && ops[to].value == ops[from].value) {
            to++;
        }
        if (!is_mute(&ops[from], to - from)) {
            good = make_zone(&ops[from], to - from, &zones[zone_count++], why, why_bytes);
        }
    }
    qsort(zones, zone_count, sizeof(*zones), by_from);
    good = good && zones_fit(zones, zone_count, why, why_bytes);
    free(zones);
    return good;
}
