/* SPDX-License-Identifier: Apache-2.0
 *
 * The world of the simulator: virtual time, the seed's random numbers, the queue of events, faults.
 *
 * Invariant: everything that happens is an event of the queue; equal times run in the order in
 * which they were queued. So the same seed gives the same run.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "server/replica_internal.h"
#include "tests/sim/sim.h"

#define START_US        1000000u
#define FAULTS_UNTIL_US 8000000u
#define QUIET_US        13000000u
#define END_US          14500000u
#define PAUSE_US        3000000u
#define FULL_US         500000u
#define DEPOSE_US       20000u
#define LONG_CUT_US     4500000u

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

void sim_note(struct sim *sim, uint64_t value)
{
    sim->fingerprint = (sim->fingerprint ^ value) * 0x100000001b3u;
}

void *sim_new(size_t bytes)
{
    void *memory = calloc(1, bytes);
    CHECK(memory != NULL);
    return memory;
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
    printf("not ok 1 - seed %" PRIu64 " at %" PRIu64 " us: %s (%" PRIu64 ", %" PRIu64 ")\n",
           sim->seed, sim->now_us, what, a, b);
    printf("# replay with: make sim SEED=%" PRIu64 "\n", sim->seed);
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

static struct sim_node *some_node(struct sim *sim)
{
    return &sim->node[sim_random(sim, sim->node_count)];
}

static void crash_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->healing) {
        return;
    }
    uint64_t count = sim_chance(sim, 200000) ? sim->node_count : 1; /* sometimes the power fails */
    uint64_t first = sim_random(sim, sim->node_count);
    for (uint64_t i = 0; i < count; i++) {
        struct sim_node *node = &sim->node[(first + i) % sim->node_count];
        if (node->up) {
            sim_node_crash(node);
            sim_node_restart_later(node);
        }
    }
    sim_at(sim, next_fault(sim, sim->rates.crash_every_us), crash_some, NULL);
}

struct deposed {
    struct sim_node *node;
    uint64_t life;
};

static void depose(struct sim *sim, void *arg)
{
    struct deposed *deposed = arg;
    struct sim_node *node = deposed->node;
    if (!sim->healing && !sim->ended && node->up && node->life == deposed->life) {
        sim_node_crash(node);
        sim_node_restart_later(node);
    }
    free(deposed);
}

void sim_new_leader(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (!sim->healing && sim_chance(sim, sim->rates.depose_ppm)) {
        struct deposed *deposed = sim_new(sizeof *deposed);
        *deposed = (struct deposed){.node = node, .life = node->life};
        sim_at(sim, sim->now_us + sim_random(sim, DEPOSE_US), depose, deposed);
    }
}

static void cut_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->healing) {
        return;
    }
    bool one = sim_chance(sim, 300000); /* One alone, or any ways, also in one direction. */
    size_t alone = (size_t)sim_random(sim, sim->node_count);
    for (size_t i = 0; i < sim->node_count && sim_chance(sim, 800000); i++) {
        alone = sim->node[i].led ? i : alone;
    }
    for (size_t from = 0; from < sim->node_count; from++) {
        for (size_t to = 0; to < sim->node_count; to++) {
            bool cut = sim_chance(sim, 250000);
            sim->cut[from][to] = one ? from == alone || to == alone : cut;
        }
    }
    sim_trace(sim, "cut changes%s", one ? ", one is alone" : "");
    uint64_t next_us = next_fault(sim, sim->rates.cut_every_us);
    if (one && sim_chance(sim, 200000)) {
        next_us = sim->now_us + LONG_CUT_US; /* Sessions expire meanwhile. */
    }
    sim_at(sim, next_us, cut_some, NULL);
}

static void break_some(struct sim *sim, void *arg)
{
    (void)arg;
    struct sim_node *a = some_node(sim);
    struct sim_node *b = some_node(sim);
    if (sim->healing) {
        return;
    }
    if (a != b) {
        sim_net_break(sim, a, b);
    }
    sim_at(sim, next_fault(sim, sim->rates.break_every_us), break_some, NULL);
}

static void pause_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->healing) {
        return;
    }
    struct sim_node *node = some_node(sim);
    uint64_t until_us = sim->now_us + sim_random(sim, PAUSE_US);
    if (node->up) {
        sim_node_pause(node, until_us < FAULTS_UNTIL_US ? until_us : FAULTS_UNTIL_US);
    }
    sim_at(sim, next_fault(sim, sim->rates.pause_every_us), pause_some, NULL);
}

/* The store takes rows again: it wakes the loop. */
static void full_no_more(struct sim *sim, void *arg)
{
    struct sim_node *node = arg;
    (void)sim;
    if (sim_node_is_running(node)) {
        sim_node_turn(node);
    }
}

static void fill_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->healing) {
        return;
    }
    struct sim_node *node = some_node(sim);
    node->full_until_us = sim->now_us + sim_random(sim, FULL_US);
    sim_at(sim, node->full_until_us, full_no_more, node);
    sim_at(sim, next_fault(sim, sim->rates.full_every_us), fill_some, NULL);
}

static void hand_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->healing) {
        return;
    }
    for (size_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->node[i];
        if (sim_node_is_running(node)) {
            sim_node_time(node);
            replica_transfer_leader(node->replica);
            sim_node_soon(node);
        }
    }
    sim_at(sim, next_fault(sim, sim->rates.hand_every_us), hand_some, NULL);
}

static void fail_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->healing) {
        return;
    }
    struct sim_node *node = some_node(sim);
    if (node->up && node->replica->raft != NULL) {
        sim_disk_fail_at(node->disk, 1 + sim_random(sim, 8), EIO);
    }
    sim_at(sim, next_fault(sim, sim->rates.error_every_us), fail_some, NULL);
}

/* With fewer voters than three a lost folder would be the loss of a majority. */
static bool may_lose_voter(const struct sim *sim, const struct raft_members *members)
{
    size_t voters = 0;
    for (size_t i = 0; i < members->count; i++) {
        voters += members->member[i].voter;
    }
    return voters > (sim->rates.wipe_at_us > 0 ? 3 : 1);
}

/* What an operator may ask for. False: nothing. */
static bool draw_change(struct sim *sim, const struct sim_node *leader, Wire__MembersChange *change)
{
    static char address[] = SIM_ADDRESS;
    static const enum _Wire__MembersAction actions[] = {
        WIRE__MEMBERS_ACTION__MEMBERS_ADD,     WIRE__MEMBERS_ACTION__MEMBERS_ADD,
        WIRE__MEMBERS_ACTION__MEMBERS_REMOVE,  WIRE__MEMBERS_ACTION__MEMBERS_DEMOTE,
        WIRE__MEMBERS_ACTION__MEMBERS_DEMOTE,  WIRE__MEMBERS_ACTION__MEMBERS_PROMOTE,
        WIRE__MEMBERS_ACTION__MEMBERS_PROMOTE, WIRE__MEMBERS_ACTION__MEMBERS_TRANSFER,
    };
    const struct raft_members *members = raft_members(leader->replica->raft);
    change->action = actions[sim_random(sim, sizeof actions / sizeof actions[0])];
    change->id = 1 + sim_random(sim, sim->node_count);
    change->address = address;
    if (change->action == WIRE__MEMBERS_ACTION__MEMBERS_ADD) {
        change->id = members->last_id + 1;
        return change->id <= sim->node_count;
    }
    if (change->action == WIRE__MEMBERS_ACTION__MEMBERS_REMOVE ||
        change->action == WIRE__MEMBERS_ACTION__MEMBERS_DEMOTE) {
        return may_lose_voter(sim, members);
    }
    return true;
}

/* A change of the members as an operator asks for it. */
static void change_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->healing) {
        return;
    }
    for (size_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->node[i];
        Wire__MembersChange change = WIRE__MEMBERS_CHANGE__INIT;
        Wire__MembersAsk ask = WIRE__MEMBERS_ASK__INIT;
        ask.change = &change;
        if (sim_node_is_running(node) && node->led && draw_change(sim, node, &change)) {
            sim_trace(sim, "node %" PRIu64 " is asked for change %d of %" PRIu64, node->id,
                      (int)change.action, change.id);
            sim_node_time(node);
            CHECK(members_take_ask(node->replica, sim->node_count > i + 1 ? i + 2 : i, &ask) ==
                  ERR_OK);
            sim_node_soon(node);
        }
    }
    sim_at(sim, next_fault(sim, sim->rates.change_every_us), change_some, NULL);
}

static void wipe_one(struct sim *sim, void *arg)
{
    (void)arg;
    sim_node_wipe(some_node(sim));
}

static void flush_some(struct sim *sim, void *arg)
{
    (void)arg;
    if (sim->ended) {
        return;
    }
    struct sim_node *node = some_node(sim);
    if (node->up) {
        sim_store_flush(node);
    }
    sim_at(sim, next_fault(sim, sim->rates.flush_every_us), flush_some, NULL);
}

/* From here on all is well: a majority must commit and all must converge. */
static void heal(struct sim *sim, void *arg)
{
    (void)arg;
    sim->healing = true;
    sim->healed_us = sim->now_us;
    memset(sim->cut, 0, sizeof sim->cut);
    sim->rates.loss_ppm = 0;
    sim->rates.duplicate_ppm = 0;
    sim->rates.split_ppm = 0;
    sim_trace(sim, "all heals");
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        sim->client[i].writes_at_heal = sim->client[i].writes_done;
    }
    for (size_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->node[i];
        sim_disk_fail_at(node->disk, 0, 0);
        if (node->up) {
            sim_node_turn(node);
        } else {
            sim_node_start(node);
        }
    }
}

static void quieten(struct sim *sim, void *arg)
{
    (void)arg;
    sim->quiet = true;
    sim_trace(sim, "clients ask for no more");
}

/* ---- one seed ---- */

/* A mean time between faults, in this share of the seeds. */
static uint64_t draw(struct sim *sim, uint32_t ppm, uint64_t least_us, uint64_t span_us)
{
    bool wanted = sim_chance(sim, ppm);
    uint64_t every_us = least_us + sim_random(sim, span_us);
    return wanted ? every_us : 0;
}

static void draw_rates(struct sim *sim)
{
    struct sim_rates *rates = &sim->rates;
    uint64_t dice = sim_random(sim, 100);
    sim->founders = dice < 5 ? 1 : dice < 85 ? 3 : 5;
    sim->node_count = sim->founders;
    rates->loss_ppm = sim_chance(sim, 500000) ? (uint32_t)sim_random(sim, 100000) : 0;
    rates->duplicate_ppm = sim_chance(sim, 500000) ? (uint32_t)sim_random(sim, 50000) : 0;
    rates->split_ppm = sim_chance(sim, 500000) ? (uint32_t)sim_random(sim, 800000) : 0;
    rates->in_order = sim_chance(sim, 500000);
    rates->delay_us_max = 200 + sim_random(sim, 10000);
    rates->batch_us_max = sim_chance(sim, 700000) ? 1 + sim_random(sim, 3000) : 0;
    rates->sync_us_max = 100 + sim_random(sim, sim_chance(sim, 200000) ? 60000 : 3000);
    rates->depose_ppm = sim_chance(sim, 300000) ? (uint32_t)sim_random(sim, 900000) : 0;
    rates->restart_us_max = sim_chance(sim, 300000) ? 50000 : 1500000;
    rates->crash_every_us = draw(sim, 700000, 300000, 3000000);
    rates->cut_every_us = draw(sim, 500000, 200000, sim_chance(sim, 300000) ? 6000000 : 2000000);
    rates->break_every_us = draw(sim, 500000, 100000, 2000000);
    rates->pause_every_us = draw(sim, 300000, 500000, 3000000);
    rates->full_every_us = draw(sim, 300000, 100000, 2000000);
    rates->hand_every_us = draw(sim, 300000, 100000, 2000000);
    rates->error_every_us = draw(sim, 200000, 500000, 3000000);
    rates->flush_every_us = 100000 + sim_random(sim, 1000000);
    rates->wipe_at_us = sim->node_count > 1 ? draw(sim, 150000, START_US + 500000, 6000000) : 0;
    rates->change_every_us = draw(sim, 300000, 200000, 2000000);
    if (rates->change_every_us > 0) {
        sim->node_count += sim_random(sim, SIM_NODES_MAX - sim->node_count + 1);
        rates->change_every_us = sim->node_count > 1 ? rates->change_every_us : 0;
    }
    rates->log_keep_bytes = sim_chance(sim, 500000) ? sim_random(sim, 65536) : UINT32_MAX;
    rates->segment_bytes = (size_t)1 << (11 + sim_random(sim, 6));
    rates->leave_ppm = sim_chance(sim, 700000) ? (uint32_t)sim_random(sim, 20000) : 0;
    rates->abandon_ppm = sim_chance(sim, 500000) ? (uint32_t)sim_random(sim, 10000) : 0;
    rates->close_ppm = sim_chance(sim, 500000) ? (uint32_t)sim_random(sim, 10000) : 0;
}

/* Leaders that hardly get anything to the others before they die: logs with many different ends
 * (figure 8 of the Raft paper). */
static void draw_churn(struct sim *sim)
{
    struct sim_rates *rates = &sim->rates;
    sim->founders = sim_chance(sim, 500000) ? 3 : 5;
    sim->node_count = sim->founders;
    rates->change_every_us = 0;
    rates->loss_ppm = (uint32_t)sim_random(sim, 500000);
    rates->split_ppm = 800000;
    rates->delay_us_max = 5000 + sim_random(sim, 10000);
    rates->sync_us_max = 100 + sim_random(sim, 3000);
    rates->depose_ppm = 500000 + (uint32_t)sim_random(sim, 450000);
    rates->restart_us_max = 5000 + sim_random(sim, 300000);
    rates->crash_every_us = draw(sim, 500000, 300000, 1000000);
    rates->cut_every_us = draw(sim, 700000, 50000, 500000);
    rates->wipe_at_us = 0;
}

static void begin_faults(struct sim *sim)
{
    const struct sim_rates *rates = &sim->rates;
    const struct {
        uint64_t every_us;
        sim_run_fn *run;
    } faults[] = {
        {rates->crash_every_us, crash_some},   {rates->cut_every_us, cut_some},
        {rates->break_every_us, break_some},   {rates->pause_every_us, pause_some},
        {rates->full_every_us, fill_some},     {rates->hand_every_us, hand_some},
        {rates->error_every_us, fail_some},    {rates->flush_every_us, flush_some},
        {rates->change_every_us, change_some},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        if (faults[i].every_us > 0) {
            sim_at(sim, next_fault(sim, faults[i].every_us), faults[i].run, NULL);
        }
    }
    if (rates->wipe_at_us > 0) {
        sim_at(sim, rates->wipe_at_us, wipe_one, NULL);
    }
    sim_at(sim, FAULTS_UNTIL_US, heal, NULL);
    sim_at(sim, QUIET_US, quieten, NULL);
}

static struct sim *sim_begin(uint64_t seed, enum plant plant, bool trace)
{
    struct sim *sim = sim_new(sizeof *sim);
    sim->seed = seed;
    sim->random = seed;
    sim->plant = plant;
    sim->trace = trace;
    sim->now_us = START_US;
    sim->acked = omap_new();
    sim->digests = omap_new();
    sim->leaders = omap_new();
    sim->votes = omap_new();
    sim->model = sim_model_new();
    sim->files_zxid = UINT64_MAX;
    CHECK(sim->acked != NULL && sim->digests != NULL && sim->leaders != NULL && sim->votes != NULL);
    draw_rates(sim);
    if (sim_chance(sim, 200000)) {
        draw_churn(sim);
    }
    begin_faults(sim);
    for (size_t i = 0; i < sim->node_count; i++) {
        sim_node_init(sim, &sim->node[i], i + 1);
    }
    for (size_t i = 0; i < sim->node_count; i++) {
        sim_node_start(&sim->node[i]);
    }
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        sim_client_init(sim, &sim->client[i], i);
    }
    return sim;
}

static void sim_done(struct sim *sim)
{
    sim->ended = true;
    for (size_t i = 0; i < sim->node_count; i++) {
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
    sim_model_free(sim->model);
    omap_free(sim->acked);
    omap_free(sim->digests);
    omap_free(sim->leaders);
    omap_free(sim->votes);
    free(sim->heap);
    free(sim);
}

void sim_run(uint64_t seed, enum plant plant, bool trace, struct sim_totals *totals)
{
    struct sim *sim = sim_begin(seed, plant, trace);
    while (sim->heap_count > 0 && sim->heap[0].at_us <= END_US) {
        struct sim_event event = take_next(sim);
        sim->now_us = event.at_us;
        sim_note(sim, event.at_us);
        event.run(sim, event.arg);
    }
    sim->now_us = END_US;
    sim_check_end(sim);
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        totals->writes += sim->client[i].writes_done;
        totals->reads += sim->client[i].reads_done;
    }
    totals->fingerprint = sim->fingerprint;
    sim_done(sim);
}
