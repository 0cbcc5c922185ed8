/* SPDX-License-Identifier: Apache-2.0
 *
 * Linearizable reads without a log entry (ReadIndex, dissertation 6.4). Called by raft.c with
 * reads and answers, by the leader's side with rounds of heartbeats.
 *
 * Leader: reads that wait get a round and the commit index of that moment as their index; when a
 * majority has answered that round or a later one, nobody else can have committed before, and all
 * reads up to the round end. Rounds only grow, so an answer to an old one confirms nothing new
 * (etcd-io/raft #397). Before the no-op of the term is committed no read gets a round: the commit
 * index may lag behind what an earlier leader answered.
 *
 * Follower: reads that wait go to the leader as one numbered request; the answer ends all reads
 * up to its number. Numbers begin at a random place, so that the number of a request from before a
 * restart is either below all of this process, and ends nothing, or above them, and is ignored.
 *
 * Invariant: the first `asked` reads have a round, ascending; the others have none.
 */
#include "common/plant.h"
#include "server/raft/raft_internal.h"

#include <stdlib.h>

#define CAPACITY_MIN      64u
#define RESEND_HEARTBEATS 2u /* a request without an answer is sent again */
#define TIMEOUT_ELECTIONS 5u /* nobody waits longer, even with a leader */

void raft_reads_done(struct raft_reads *reads)
{
    free(reads->ring);
    reads->ring = NULL;
}

static struct raft_waiting_read *read_at(const struct raft_reads *reads, size_t i)
{
    return &reads->ring[(reads->first + i) & (reads->capacity - 1)];
}

static bool grow(struct raft_reads *reads)
{
    size_t capacity = reads->capacity != 0 ? reads->capacity * 2 : CAPACITY_MIN;
    struct raft_waiting_read *ring = NULL;

    if (reads->count < reads->capacity) {
        return true;
    }
    ring = malloc(capacity * sizeof(*ring));
    if (ring == NULL) {
        return false;
    }
    for (size_t i = 0; i < reads->count; i++) {
        ring[i] = *read_at(reads, i);
    }
    free(reads->ring);
    reads->ring = ring;
    reads->capacity = capacity;
    reads->first = 0;
    return true;
}

enum err raft_reads_add(struct raft *raft, uint64_t context, uint64_t from)
{
    struct raft_reads *reads = &raft->reads;

    if (reads->count >= READS_WAITING_MAX) {
        return ERR_LIMIT;
    }
    if (!grow(reads)) {
        raft->no_memory = true;
        return ERR_MEMORY;
    }
    *read_at(reads, reads->count) = (struct raft_waiting_read){
        .context = context,
        .from = from,
        .arrived_ms = raft->now_ms,
    };
    reads->count++;
    return ERR_OK;
}

/* Ends a read of this replica. */
static void finish(struct raft *raft, uint64_t context, uint64_t index, enum err err)
{
    struct raft_read *done = raft_grow(raft, raft->done_reads, &raft->done_read_capacity,
                                       raft->done_read_count + 1, sizeof(*done));

    if (done == NULL) {
        return;
    }
    raft->done_reads = done;
    done[raft->done_read_count++] =
        (struct raft_read){.context = context, .index = index, .err = err};
}

static struct raft_waiting_read pop(struct raft_reads *reads)
{
    struct raft_waiting_read read = *read_at(reads, 0);

    CHECK(reads->count > 0);
    reads->first = (reads->first + 1) & (reads->capacity - 1);
    reads->count--;
    if (reads->asked > 0) {
        reads->asked--;
    }
    return read;
}

void raft_reads_ask(struct raft *raft, uint64_t round)
{
    struct raft_reads *reads = &raft->reads;

    for (; reads->asked < reads->count; reads->asked++) {
        struct raft_waiting_read *read = read_at(reads, reads->asked);
        read->round = round;
        read->index = raft->log.commit_index;
    }
}

void raft_reads_confirm(struct raft *raft, uint64_t round)
{
    struct raft_reads *reads = &raft->reads;

    while (reads->asked > 0 && PLANT(READ_NO_ROUND, true, read_at(reads, 0)->round <= round)) {
        struct raft_waiting_read read = pop(reads);
        if (read.from == 0) {
            finish(raft, read.context, read.index, ERR_OK);
            continue;
        }
        raft_send(raft, (struct raft_message){
                            .type = RAFT_MSG_READ_INDEX_ANSWER,
                            .to = read.from,
                            .context = read.context,
                            .commit = read.index,
                        });
    }
}

void raft_on_read_index_answer(struct raft *raft, const struct raft_message *message)
{
    struct raft_reads *reads = &raft->reads;

    /* A larger number than ours is from before a restart: its index may be too old. */
    if (raft->role != RAFT_FOLLOWER || raft->leader != message->from ||
        message->context > reads->request) {
        return;
    }
    while (reads->asked > 0 && read_at(reads, 0)->round <= message->context) {
        finish(raft, pop(reads).context, message->commit, ERR_OK);
    }
}

/* Ends the oldest read without an index. Another replica's is dropped: it knows by itself. */
static void give_up(struct raft *raft)
{
    struct raft_waiting_read read = pop(&raft->reads);

    if (read.from == 0) {
        finish(raft, read.context, 0, ERR_NO_LEADER);
    }
}

void raft_reads_fail(struct raft *raft)
{
    while (raft->reads.count > 0) {
        give_up(raft);
    }
}

/* When the oldest read is given up. Reads that wait without a leader all came after it was lost,
 * because its loss ended those before. */
static uint64_t timeout_at(const struct raft *raft)
{
    uint64_t elections = raft->leader == 0 ? 1 : TIMEOUT_ELECTIONS;

    if (raft->reads.count == 0) {
        return RAFT_NEVER;
    }
    return read_at(&raft->reads, 0)->arrived_ms + elections * raft->config.election_max_ms;
}

void raft_reads_tick(struct raft *raft)
{
    while (raft->now_ms >= timeout_at(raft)) {
        give_up(raft);
    }
}

void raft_reads_flush(struct raft *raft)
{
    struct raft_reads *reads = &raft->reads;

    if (raft->role != RAFT_FOLLOWER || raft->leader == 0 || reads->count == 0) {
        return;
    }
    if (reads->asked == 0) {
        reads->request++;
        raft_reads_ask(raft, reads->request);
    } else if (raft->now_ms < reads->resend_ms) {
        return;
    }
    reads->resend_ms = raft->now_ms + (uint64_t)RESEND_HEARTBEATS * raft->config.heartbeat_ms;
    raft_send(raft, (struct raft_message){
                        .type = RAFT_MSG_READ_INDEX,
                        .to = raft->leader,
                        .context = reads->request,
                    });
}

uint64_t raft_reads_deadline(const struct raft *raft)
{
    uint64_t deadline_ms = timeout_at(raft);

    if (raft->role == RAFT_FOLLOWER && raft->leader != 0 && raft->reads.asked > 0 &&
        raft->reads.resend_ms < deadline_ms) {
        deadline_ms = raft->reads.resend_ms;
    }
    return deadline_ms;
}
