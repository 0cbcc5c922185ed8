/* SPDX-License-Identifier: Apache-2.0
 *
 * The log as the core knows it: the newest entries in memory, the terms of more, and how far the
 * disk is. Called by the leader's and the follower's side of replication; hands on to nobody.
 *
 * What lies where:
 *
 *     1 ... runs[0].index ... tail_first ... durable_index ... save_next ... last_index
 *     |on disk, term unknown |term known   |in memory .............................. |
 *                                          |durable       |submitted    |not yet     |
 *
 * Saves are reported by (index, term). An index may be written, truncated and written again, even
 * with the same term (ABA), so a truncation is submitted only when nothing is in flight: invariant
 * 4 of struct raft_log.
 */
#include "server/raft/raft_internal.h"

#include <stdlib.h>
#include <string.h>

#define RING_CAPACITY_MIN 256u

struct raft_entry *raft_entry_new(uint8_t type, const void *data, size_t len)
{
    struct raft_entry *entry = NULL;

    if (len > UINT32_MAX) {
        return NULL;
    }
    entry = malloc(sizeof(*entry) + len);
    if (entry == NULL) {
        return NULL;
    }
    *entry = (struct raft_entry){.references = 1, .len = (uint32_t)len, .type = type};
    if (len > 0) {
        memcpy(entry->data, data, len);
    }
    return entry;
}

struct raft_entry *raft_entry_ref(struct raft_entry *entry)
{
    CHECK(entry->references > 0 && entry->references < UINT32_MAX);
    entry->references++;
    return entry;
}

void raft_entry_unref(struct raft_entry *entry)
{
    if (entry == NULL) {
        return;
    }
    CHECK(entry->references > 0);
    entry->references--;
    if (entry->references == 0) {
        free(entry);
    }
}

void raft_log_init(struct raft_log *log, const struct raft_start *start)
{
    log->tail_first = start->last_index + 1;
    log->last_index = start->last_index;
    log->last_term = start->last_term;
    log->last_time_ns = start->last_time_ns;
    log->commit_index = start->applied_index;
    log->applied_index = start->applied_index;
    log->durable_index = start->last_index;
    log->durable_term = start->last_term;
    log->save_next = start->last_index + 1;
    log->disk_last = start->last_index;
    log->disk_first = start->first_index;
    log->runs[0] = (struct raft_run){.index = start->last_index, .term = start->last_term};
    log->run_count = 1;
}

static size_t entry_bytes(const struct raft_entry *entry)
{
    return sizeof(*entry) + entry->len;
}

static struct raft_entry **slot(const struct raft_log *log, uint64_t index)
{
    return &log->ring[index & (log->ring_capacity - 1)];
}

void raft_log_done(struct raft_log *log)
{
    for (uint64_t i = log->tail_first; i <= log->last_index; i++) {
        raft_entry_unref(*slot(log, i));
    }
    free(log->ring);
    log->ring = NULL;
    log->tail_first = log->last_index + 1;
}

struct raft_entry *raft_log_entry(const struct raft_log *log, uint64_t index)
{
    if (index < log->tail_first || index > log->last_index) {
        return NULL;
    }
    return *slot(log, index);
}

/* The run that holds `index`, which must be known. Almost always the last one. */
static size_t run_find(const struct raft_log *log, uint64_t index)
{
    size_t i = log->run_count - 1;

    CHECK(log->run_count > 0);
    CHECK(index >= log->runs[0].index);
    while (log->runs[i].index > index) {
        i--;
    }
    return i;
}

bool raft_log_term(const struct raft_log *log, uint64_t index, uint64_t *out_term)
{
    if (index < log->runs[0].index || index > log->last_index) {
        return false;
    }
    *out_term = log->runs[run_find(log, index)].term;
    return true;
}

/* Adds a run at the end of one of the two tables; the oldest is forgotten when it is full. */
static void run_add(struct raft_run *runs, size_t *count, uint64_t index, uint64_t term)
{
    if (*count > 0 && runs[*count - 1].term == term) {
        return;
    }
    if (*count == RAFT_RUNS_MAX) {
        memmove(runs, runs + 1, (RAFT_RUNS_MAX - 1) * sizeof(*runs));
        *count -= 1;
    }
    runs[*count] = (struct raft_run){.index = index, .term = term};
    *count += 1;
}

/* Room for one entry more; the entries keep their places modulo the capacity. */
static enum err ring_grow(struct raft_log *log)
{
    size_t used = (size_t)(log->last_index + 1 - log->tail_first);
    size_t capacity = log->ring_capacity != 0 ? log->ring_capacity * 2 : RING_CAPACITY_MIN;
    struct raft_entry **ring = NULL;

    if (used < log->ring_capacity) {
        return ERR_OK;
    }
    ring = calloc(capacity, sizeof(*ring));
    if (ring == NULL) {
        return ERR_MEMORY;
    }
    for (uint64_t i = log->tail_first; i <= log->last_index; i++) {
        ring[i & (capacity - 1)] = *slot(log, i);
    }
    free(log->ring);
    log->ring = ring;
    log->ring_capacity = capacity;
    return ERR_OK;
}

enum err raft_log_append(struct raft_log *log, struct raft_entry *entry)
{
    enum err err = ring_grow(log);

    if (err != ERR_OK) {
        return err;
    }
    CHECK_OP(entry->index, ==, log->last_index + 1);
    CHECK_OP(entry->term, >=, log->last_term);
    log->last_index = entry->index;
    log->last_term = entry->term;
    if (entry->time_ns > log->last_time_ns) {
        log->last_time_ns = entry->time_ns;
    }
    *slot(log, entry->index) = raft_entry_ref(entry);
    log->tail_bytes += entry_bytes(entry);
    run_add(log->runs, &log->run_count, entry->index, entry->term);
    return ERR_OK;
}

void raft_log_truncate(struct raft_log *log, uint64_t index, uint64_t term_before)
{
    CHECK_OP(index, >, log->commit_index);
    CHECK_OP(index, <=, log->last_index);
    for (uint64_t i = log->last_index; i >= index && i >= log->tail_first; i--) {
        struct raft_entry *entry = *slot(log, i);
        log->tail_bytes -= entry_bytes(entry);
        raft_entry_unref(entry);
    }
    log->truncations++;
    log->last_index = index - 1;
    log->last_term = term_before;
    if (log->tail_first > index) {
        log->tail_first = index;
    }
    while (log->run_count > 0 && log->runs[log->run_count - 1].index >= index) {
        log->run_count--;
    }
    run_add(log->runs, &log->run_count, index - 1, term_before);
    if (log->durable_index >= index) {
        log->durable_index = index - 1;
        log->durable_term = term_before;
    }
    if (index < log->save_next) {
        log->save_next = index;
        /* While an earlier truncation waits, save_next is its index: this one lies before it. */
        log->truncate = true;
        log->truncate_index = index;
    }
}

size_t raft_log_save_count(const struct raft_log *log)
{
    if (log->truncate && log->in_flight) {
        return 0;
    }
    return (size_t)(log->last_index + 1 - log->save_next);
}

void raft_log_submitted(struct raft_log *log, size_t count)
{
    CHECK(count > 0);
    CHECK(!(log->truncate && log->in_flight));
    log->save_next += count;
    log->disk_last = log->save_next - 1;
    log->in_flight = true;
    log->truncate = false;
    CHECK_OP(log->disk_last, <=, log->last_index);
}

bool raft_log_saved(struct raft_log *log, uint64_t index, uint64_t term)
{
    bool replaced = log->truncate && index >= log->truncate_index;
    uint64_t known = 0;

    if (!log->in_flight || index > log->disk_last) {
        return false;
    }
    if (!replaced && (!raft_log_term(log, index, &known) || known != term)) {
        return false;
    }
    if (index == log->disk_last) {
        log->in_flight = false;
    }
    if (replaced) {
        index = log->truncate_index - 1; /* of what is to stay, all is durable */
    }
    if (index <= log->durable_index) {
        return false;
    }
    CHECK(raft_log_term(log, index, &log->durable_term));
    log->durable_index = index;
    return true;
}

void raft_log_trim(struct raft_log *log)
{
    while (log->tail_bytes > RAFT_TAIL_BYTES_MAX && log->tail_first <= log->durable_index &&
           log->tail_first <= log->commit_index) {
        struct raft_entry *entry = *slot(log, log->tail_first);
        log->tail_bytes -= entry_bytes(entry);
        log->tail_first++;
        raft_entry_unref(entry);
    }
}

void raft_log_find_term(const struct raft_log *log, uint64_t term, uint64_t *index,
                        uint64_t *out_term)
{
    size_t i = 0;

    *out_term = 0;
    if (*index > log->last_index) {
        *index = log->last_index;
    }
    if (*index < log->runs[0].index) {
        return;
    }
    for (i = run_find(log, *index) + 1; i > 0; i--) {
        const struct raft_run *run = &log->runs[i - 1];
        if (run->term <= term) {
            *out_term = run->term;
            return;
        }
        if (run->index == 0) {
            break; /* term 0 is never above another; only a log that began elsewhere gets here */
        }
        *index = run->index - 1;
    }
}

bool raft_log_fits(const struct raft_log *log, uint64_t term_before,
                   struct raft_entry *const *entries, size_t count)
{
    uint64_t known = 0;

    CHECK(count > 0);
    if (entries[count - 1]->index > log->last_index) {
        return false;
    }
    if (raft_log_term(log, entries[0]->index - 1, &known) && known != term_before) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (raft_log_term(log, entries[i]->index, &known) && known != entries[i]->term) {
            return false;
        }
    }
    return true;
}

/* Puts the runs that were read from disk before those already known. */
static void runs_join(struct raft_log *log)
{
    struct raft_run known[RAFT_RUNS_MAX];
    size_t known_count = log->run_count;

    memcpy(known, log->runs, known_count * sizeof(*known));
    memcpy(log->runs, log->scan, log->scan_count * sizeof(*log->scan));
    log->run_count = log->scan_count;
    for (size_t i = 0; i < known_count; i++) {
        run_add(log->runs, &log->run_count, known[i].index, known[i].term);
    }
}

bool raft_log_scanned(struct raft_log *log, uint64_t term_before, struct raft_entry *const *entries,
                      size_t count)
{
    if (count == 0 || entries[0]->index != log->scan_next || log->scan_next >= log->runs[0].index) {
        log->scanning = false;
        return false;
    }
    if (log->scan_count == 0) {
        run_add(log->scan, &log->scan_count, log->scan_next - 1, term_before);
    }
    for (size_t i = 0; i < count && log->scan_next < log->runs[0].index; i++) {
        run_add(log->scan, &log->scan_count, entries[i]->index, entries[i]->term);
        log->scan_next++;
    }
    if (log->scan_next < log->runs[0].index) {
        return true;
    }
    runs_join(log);
    log->scanning = false;
    return false;
}
