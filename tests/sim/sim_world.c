/* SPDX-License-Identifier: Apache-2.0
 *
 * The world of the simulator: virtual time, the seed's random numbers, the queue of events, faults.
 *
 * Invariant: everything that happens is an event of the queue; equal times run in the order in
 * which they were queued. So the same seed gives the same run.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "tests/sim/sim.h"

#define FAULTS_UNTIL_US 8000000u
#define END_US 14000000u

uint64_t sim_random(struct sim *sim, uint64_t below)
{
    sim->random += 0x9e3779b97f4a7c15u;
    uint64_t z = sim->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return below == 0 ? z : z % below;
}

bool sim_chance(struct sim *sim, uint32_t ppm)
{
    return ppm > 0 && sim_random(sim, 1000000) < ppm;
}

void sim_trace(struct sim *sim, const char *format, ...)
{
    if (!sim->trace) {
        return;
    }
    va_list args;
    va_start(args, format);
    printf("%10.6f ", (double)sim->now_us / 1e6);
    (void)vprintf(format, args);
    putchar('\n');
    va_end(args);
}

_Noreturn void sim_failed(struct sim *sim, const char *what, uint64_t a, uint64_t b)
{
    printf("FAILED seed=%" PRIu64 " at_us=%" PRIu64 ": %s (%" PRIu64 ", %" PRIu64 ")\n", sim->seed,
           sim->now_us, what, a, b);
    printf("replay with: make sim SEED=%" PRIu64 "\n", sim->seed);
    (void)fflush(stdout);
    _Exit(1);
}

/* ---- queue of events: a binary heap ---- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->number < b->number;
}

void sim_at(struct sim *sim, uint64_t at_us, sim_run_fn *run, void *arg)
{
    if (sim->heap_count == sim->heap_capacity) {
        sim->heap_capacity = sim->heap_capacity == 0 ? 1024 : sim->heap_capacity * 2;
        sim->heap = realloc(sim->heap, sim->heap_capacity * sizeof *sim->heap);
        CHECK(sim->heap != NULL);
    }
    struct sim_event event = {.at_us = at_us < sim->now_us ? sim->now_us : at_us,
                              .number = ++sim->last_event,
                              .run = run,
                              .arg = arg};
    size_t at = sim->heap_count++;
    while (at > 0 && is_before(&event, &sim->heap[(at - 1) / 2])) {
        sim->heap[at] = sim->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sim->heap[at] = event;
}

static struct sim_event take_next(struct sim *sim)
{
    struct sim_event first = sim->heap[0];
    struct sim_event last = sim->heap[--sim->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= sim->heap_count) {
            break;
        }
        if (child + 1 < sim->heap_count && is_before(&sim->heap[child + 1], &sim->heap[child])) {
            child++;
        }
        if (!is_before(&sim->heap[child], &last)) {
            break;
        }
        sim->heap[at] = sim->heap[child];
        at = child;
    }
    sim->heap[at] = last;
    return first;
}

/* ---- faults ---- */

static uint64_t next_fault(struct sim *sim, uint64_t mean_us)
{
    return sim->now_us + 1 + sim_random(sim, 2 * mean_us);
}

static void restart(struct sim *sim, void *arg)
{
    struct sim_node *node = arg;
    if (!sim->ended && !node->up) {
        sim_node_start(node);
    }
}

static void crash_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->healing) {
        return;
    }
    uint64_t count = sim_chance(sim, 200000) ? SIM_NODES : 1; /* sometimes the power fails */
    uint64_t first = sim_random(sim, SIM_NODES);
    for (uint64_t i = 0; i < count; i++) {
        struct sim_node *node = &sim->node[(first + i) % SIM_NODES];
        if (node->up) {
            sim_node_crash(node);
            sim_at(sim, sim->now_us + 1000 + sim_random(sim, 1500000), restart, node);
        }
    }
    sim_at(sim, next_fault(sim, sim->rates.crash_every_us), crash_some, NULL);
}

static void cut_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->healing) {
        return;
    }
    for (size_t from = 0; from < SIM_NODES; from++) {
        for (size_t to = 0; to < SIM_NODES; to++) {
            sim->cut[from][to] = sim_chance(sim, 250000); /* one-way cuts too */
        }
    }
    sim_trace(sim, "cut changes");
    sim_at(sim, next_fault(sim, sim->rates.cut_every_us), cut_some, NULL);
}

static void wake(struct sim *sim, void *arg)
{
    (void)sim;
    struct sim_node *node = arg;
    if (sim_node_is_running(node)) {
        sim_node_turn(node);
    }
}

static void pause_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->healing) {
        return;
    }
    struct sim_node *node = &sim->node[sim_random(sim, SIM_NODES)];
    node->paused_until_us = sim->now_us + sim_random(sim, 3000000);
    sim_trace(sim, "node %" PRIu64 " pauses until %" PRIu64, node->id, node->paused_until_us);
    sim_at(sim, node->paused_until_us + 1, wake, node);
    sim_at(sim, next_fault(sim, sim->rates.pause_every_us), pause_some, NULL);
}

static void flush_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->ended) {
        return;
    }
    struct sim_node *node = &sim->node[sim_random(sim, SIM_NODES)];
    if (node->up) {
        omap_free(node->flushed);
        node->flushed = omap_new();
        CHECK(node->flushed != NULL);
        const struct omap_entry *entry = omap_seek(node->rows, NULL, 0);
        for (; entry != NULL; entry = omap_next(node->rows, entry)) {
            CHECK(omap_put(node->flushed, entry->key, entry->key_len, entry->value,
                           entry->value_len) == ERR_OK);
        }
    }
    sim_at(sim, next_fault(sim, sim->rates.flush_every_us), flush_some, NULL);
}

/* From here on all is well: a majority must commit and all must converge. */
static void heal(struct sim *sim, void *arg)
{
    (void)arg;
    sim->healing = true;
    memset(sim->cut, 0, sizeof sim->cut);
    sim->rates.loss_ppm = 0;
    sim->rates.duplicate_ppm = 0;
    sim_trace(sim, "all heals");
    for (size_t i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->node[i];
        node->paused_until_us = 0;
        if (node->up) {
            sim_node_turn(node);
        } else {
            sim_node_start(node);
        }
    }
}

static void draw_rates(struct sim *sim)
{
    struct sim_rates *rates = &sim->rates;
    rates->loss_ppm = sim_chance(sim, 500000) ? (uint32_t)sim_random(sim, 100000) : 0;
    rates->duplicate_ppm = sim_chance(sim, 500000) ? (uint32_t)sim_random(sim, 50000) : 0;
    rates->delay_us_max = 200 + sim_random(sim, 10000);
    rates->sync_us_max = 100 + sim_random(sim, sim_chance(sim, 200000) ? 60000 : 3000);
    rates->crash_every_us = sim_chance(sim, 700000) ? 300000 + sim_random(sim, 3000000) : 0;
    rates->cut_every_us = sim_chance(sim, 500000) ? 200000 + sim_random(sim, 2000000) : 0;
    rates->pause_every_us = sim_chance(sim, 300000) ? 500000 + sim_random(sim, 3000000) : 0;
    rates->flush_every_us = 100000 + sim_random(sim, 1000000);
    if (rates->crash_every_us > 0) {
        sim_at(sim, next_fault(sim, rates->crash_every_us), crash_some, NULL);
    }
    if (rates->cut_every_us > 0) {
        sim_at(sim, next_fault(sim, rates->cut_every_us), cut_some, NULL);
    }
    if (rates->pause_every_us > 0) {
        sim_at(sim, next_fault(sim, rates->pause_every_us), pause_some, NULL);
    }
    sim_at(sim, next_fault(sim, rates->flush_every_us), flush_some, NULL);
}

static void sim_done(struct sim *sim)
{
    sim->ended = true;
    for (size_t i = 0; i < SIM_NODES; i++) {
        if (sim->node[i].up) {
            sim_node_crash(&sim->node[i]);
        }
        sim_node_done(&sim->node[i]);
    }
    /* What is still queued owns memory: let it run out against nodes that are down. */
    while (sim->heap_count > 0) {
        struct sim_event event = take_next(sim);
        event.run(sim, event.arg);
    }
    while (sim->conns != NULL) {
        struct client_conn *conn = sim->conns;
        sim->conns = conn->next_made;
        free(conn);
    }
    omap_free(sim->acked);
    omap_free(sim->digests);
    omap_free(sim->leaders);
    free(sim->heap);
    free(sim);
}

void sim_run(uint64_t seed, bool trace, uint64_t *out_writes, uint64_t *out_reads)
{
    struct sim *sim = calloc(1, sizeof *sim);
    CHECK(sim != NULL);
    sim->seed = seed;
    sim->random = seed;
    sim->trace = trace;
    sim->now_us = 1000000;
    sim->acked = omap_new();
    sim->digests = omap_new();
    sim->leaders = omap_new();
    CHECK(sim->acked != NULL && sim->digests != NULL && sim->leaders != NULL);
    draw_rates(sim);
    for (size_t i = 0; i < SIM_NODES; i++) {
        sim_node_init(sim, &sim->node[i], i + 1);
    }
    for (size_t i = 0; i < SIM_NODES; i++) {
        sim_node_start(&sim->node[i]);
    }
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        sim_client_init(sim, &sim->client[i], i);
    }
    sim_at(sim, FAULTS_UNTIL_US, heal, NULL);
    while (sim->heap_count > 0 && sim->heap[0].at_us <= END_US) {
        struct sim_event event = take_next(sim);
        sim->now_us = event.at_us;
        event.run(sim, event.arg);
    }
    sim->now_us = END_US;
    sim_check_end(sim);
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        *out_writes += sim->client[i].writes_done;
        *out_reads += sim->client[i].reads_done;
    }
    sim_done(sim);
}
