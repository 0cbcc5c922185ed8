/* SPDX-License-Identifier: Apache-2.0
 *
 * What a replica says of itself: the answers to StatusRead and MembersRead. Handed requests by
 * answer.c; hands on to the connection.
 */
#include <string.h>

#include "server/replica_internal.h"

static const char *role_name(enum raft_role role)
{
    switch (role) {
    case RAFT_LEADER:
        return "leader";
    case RAFT_FOLLOWER:
        return "follower";
    case RAFT_CANDIDATE:
    case RAFT_PRE_CANDIDATE:
        return "candidate";
    }
    return "unknown";
}

static void send(struct replica *replica, struct client *client, Wire__Answer *answer)
{
    answer->zxid = replica->applied_index;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;
    message.body_case = WIRE__TO_CLIENT__BODY_ANSWER;
    message.answer = answer;
    client_send(replica, client, &message);
}

void status_answer(struct replica *replica, struct client *client, uint64_t call)
{
    struct raft_status raft;
    replica_raft_status(replica, &raft);
    const char *role = role_name(raft.role);
    Wire__Status status = WIRE__STATUS__INIT;
    status.replica = replica->identity.id;
    status.role = wire_bytes(role, strlen(role));
    status.term = raft.term;
    status.leader = raft.leader;
    status.commit_index = raft.commit_index;
    status.applied_index = replica->applied_index;
    status.durable_index = raft.durable_index;
    status.sessions = sessions_count(replica->sessions);
    status.connections = replica->client_count;
    status.nodes = tree_node_count(replica->tree);
    status.data_bytes = tree_data_bytes(replica->tree);
    status.promises = watches_count(replica->watches);
    status.uptime_ms = replica->now_ms - replica->started_ms;
    status.feature_level = tree_feature_level(replica->tree);
    status.feature_level_known = replica->feature_level;
    status.ensemble = wire_bytes(replica->identity.ensemble, ENSEMBLE_ID_BYTES);
    Wire__Answer answer = WIRE__ANSWER__INIT;
    answer.call = call;
    answer.status = &status;
    send(replica, client, &answer);
}

void status_members_answer(struct replica *replica, struct client *client, uint64_t call)
{
    struct raft_status raft;
    replica_raft_status(replica, &raft);
    const struct raft_members *members = members_now(replica);
    Wire__Member rows[MEMBERS_MAX];
    Wire__Member *pointers[MEMBERS_MAX];
    for (size_t i = 0; i < members->count; i++) {
        const struct raft_member *member = &members->member[i];
        wire__member__init(&rows[i]);
        rows[i].id = member->id;
        rows[i].address = wire_bytes(member->address, strlen(member->address));
        rows[i].voter = member->voter;
        rows[i].joining = member->joining;
        rows[i].changing = raft_members_is_joint(members) && member->was_voter != member->voter;
        rows[i].incarnation = member->incarnation;
        rows[i].connected = member->id == replica->identity.id ||
                            replica->env.peer_is_connected(replica->env.context, member->id);
        rows[i].match_index = member->id == replica->identity.id ? raft.durable_index : 0;
        for (size_t p = 0; p < raft.peer_count; p++) {
            if (raft.peer[p].id == member->id) {
                rows[i].match_index = raft.peer[p].match_index;
            }
        }
        pointers[i] = &rows[i];
    }
    Wire__Answer answer = WIRE__ANSWER__INIT;
    answer.call = call;
    answer.n_members = members->count;
    answer.members = pointers;
    send(replica, client, &answer);
}
