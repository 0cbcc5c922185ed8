/* SPDX-License-Identifier: Apache-2.0
 *
 * Bugs that are planted on purpose, to see whether the simulator finds them (`make sim-teeth`). The
 * programs and all other tests are built without QUORUMFS_PLANTS: nothing of them is there.
 */
#ifndef QUORUMFS_COMMON_PLANT_H
#define QUORUMFS_COMMON_PLANT_H

enum plant {
    PLANT_NONE,
    /* In what the simulator does for a replica: disk, store, network. */
    PLANT_NO_SYNC,
    PLANT_VOTE_NOT_SAVED,
    PLANT_EARLY_SAVED,
    PLANT_FOLDER_NOT_SYNCED,
    PLANT_TRUNCATION_NOT_SYNCED,
    PLANT_WIPED_VOTER,
    PLANT_INDEX_APART,
    PLANT_DEDUP_DROPPED,
    PLANT_EVENT_LATE,
    PLANT_RESYNC_LOST,
    PLANT_SNAPSHOT_TWICE,
    /* In the replica. */
    PLANT_OLD_TERM_COMMIT,
    PLANT_HEARTBEAT_COMMIT,
    PLANT_VOTE_EARLY,
    PLANT_VOTE_ANY_LOG,
    PLANT_APPLY_UNSYNCED,
    PLANT_READ_NO_ROUND,
    PLANT_READ_BEFORE_NOOP,
    PLANT_ACK_UNVERIFIED,
    PLANT_EPOCH_IGNORED,
    PLANT_CLOSE_OLD_EPOCH,
    PLANT_EPHEMERALS_STAY,
    PLANT_EXPIRE_NEW_LEADER,
    PLANT_SERVE_EARLY,
    PLANT_LEASE_ALONE,
    PLANT_RECLAIM_NO_PROMISE,
    PLANT_FORGET_CROSSES,
    PLANT_COMPACT_UNFLUSHED,
    PLANT_COUNT,
};

/* PLANT(NAME, buggy, right): an expression that is `right` unless that bug is planted. */
#ifdef QUORUMFS_PLANTS
extern enum plant planted; /* tests/sim/sim_teeth.c */
#define PLANT(name, buggy, right) (planted == PLANT_##name ? (buggy) : (right))
#else
#define PLANT(name, buggy, right) (right)
#endif

#endif
