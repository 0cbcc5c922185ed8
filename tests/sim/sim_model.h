/* SPDX-License-Identifier: Apache-2.0
 *
 * What the log means. Included by sim.h.
 */
#ifndef QUORUMFS_TESTS_SIM_MODEL_H
#define QUORUMFS_TESTS_SIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/wire.h"
#include "server/raft/raft.h"

struct sim;
struct sim_client;
struct sim_durable;
struct sim_model;
struct sim_node;

struct sim_model *sim_model_new(void);
void sim_model_free(struct sim_model *model);
/* A node has applied these entries. */
void sim_model_applied(struct sim_node *node, const struct raft_entry *entry);
/* The first applied entry that does not lie there; 0: all do. */
uint64_t sim_model_missing(const struct sim *sim, const struct sim_durable *durable);
uint64_t sim_entry_hash(const struct raft_entry *entry);
/* Fails unless the answer is what the model says of the command that stands at its zxid. */
void sim_model_check_write(struct sim_client *client, uint64_t sequence,
                           const Wire__Answer *answer);
/* Fails unless the answer shows the register as it is at its zxid. */
void sim_model_check_read(struct sim_client *client, const Wire__Answer *answer);
/* The newest zxid <= `zxid` that changed that register; 0: none. */
uint64_t sim_model_register_zxid(const struct sim *sim, uint64_t of, uint64_t zxid);
/* When the close of that session was applied first; UINT64_MAX: not yet. */
uint64_t sim_model_closed_us(const struct sim *sim, uint64_t session);
/* Compares the tree of a replica that has applied everything with the model. */
void sim_model_check_tree(struct sim_node *node);
/* The next living session behind `after`; 0: none. */
uint64_t sim_model_session(const struct sim *sim, uint64_t after);

#endif
