/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshots between simulated replicas: the rows of one at a moment, which take the place of those
 * of another after some time; either may crash before. Handed wishes by the conductor's
 * environment; the taker starts again with what it took, as the daemon does.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "server/replica_internal.h"
#include "tests/sim/sim.h"

#define TAKE_US_MAX 400000u

struct giving {
    struct sim_node *from;
    struct sim_node *to;
    uint64_t from_life;
    uint64_t to_life;
    uint64_t index;
    struct omap *rows;
    struct sim_durable log; /* hashes of the entries in it */
};

static void giving_free(struct giving *giving)
{
    omap_free(giving->rows);
    free(giving->log.hash);
    free(giving);
}

/* The taker ends, with what it took in the place of its rows, and starts again. */
static void install(struct giving *giving)
{
    struct sim_node *to = giving->to;
    sim_trace(to->sim, "node %" PRIu64 " takes a snapshot at %" PRIu64 " of node %" PRIu64, to->id,
              giving->index, giving->from->id);
    sim_node_crash(to);
    omap_free(to->flushed);
    to->flushed = giving->rows;
    giving->rows = NULL;
    sim_store_crash(to);
    free(to->incoming.hash);
    to->incoming = giving->log;
    giving->log = (struct sim_durable){0};
    to->installing = true;
    sim_node_start(to);
}

static void give(struct sim *sim, void *arg)
{
    struct giving *giving = arg;
    struct sim_node *from = giving->from;
    struct sim_node *to = giving->to;
    uint64_t term = 0;
    if (!sim_node_awake(to, give, arg)) {
        return;
    }
    bool given = !sim->ended && to->up && to->life == giving->to_life && to->identity.formed &&
                 from->up && from->life == giving->from_life && to->replica->raft != NULL &&
                 replica_applied(to->replica, &term) < giving->index && !sim_chance(sim, 100000);
    if (given) {
        install(giving);
    }
    if (from->up && from->life == giving->from_life) {
        from->giving[to->id] = false;
        sim_node_time(from);
        replica_snapshot_ended(from->replica, to->id, given ? giving->index : 0);
        sim_node_soon(from);
    }
    giving_free(giving);
}

void sim_snapshot_wanted(void *context, uint64_t to)
{
    struct sim_node *from = context;
    struct sim *sim = from->sim;
    struct giving *giving = NULL;
    uint64_t term = 0;
    CHECK(to > 0 && to <= sim->node_count);
    if (from->giving[to]) {
        return;
    }
    from->giving[to] = true;
    giving = sim_new(sizeof *giving);
    *giving = (struct giving){.from = from,
                              .to = &sim->node[to - 1],
                              .from_life = from->life,
                              .to_life = sim->node[to - 1].life,
                              .index = replica_applied(from->replica, &term)};
    sim_store_copy(&giving->rows, from->rows);
    giving->index -= sim_store_tear(from, giving->rows);
    giving->log.hash = sim_new(giving->index * sizeof(uint64_t));
    giving->log.count = (size_t)giving->index;
    giving->log.capacity = giving->log.count;
    memcpy(giving->log.hash, from->durable.hash, giving->log.count * sizeof(uint64_t));
    sim_at(sim, sim->now_us + 1000 + sim_random(sim, TAKE_US_MAX), give, giving);
}
