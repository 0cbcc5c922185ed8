/* SPDX-License-Identifier: Apache-2.0
 *
 * Every maximum of quorumfs, with its unit and its reason. At a maximum we refuse, we do not grow.
 */
#ifndef QUORUMFS_COMMON_LIMITS_H
#define QUORUMFS_COMMON_LIMITS_H

#define KIB 1024u
#define MIB (1024u * 1024u)

/* Tree. */
#define NAME_BYTES_MAX        255u         /* NAME_MAX of Linux */
#define PATH_BYTES_MAX        4096u        /* PATH_MAX of Linux */
#define FILE_BYTES_MAX        (1u * MIB)   /* data in one log entry; file_bytes_max by default */
#define FILE_BYTES_LIMIT      (64u * MIB)  /* data of one node: the highest file_bytes_max */
#define DATA_CHUNK_BYTES      (1u * MIB)   /* of large data, in a row each */
#define STAGE_PARTS_MAX       1024u        /* parts of one staged write */
#define STAGED_BYTES_MAX      (128u * MIB) /* of all stages of a session, each part with */
#define STAGE_PART_BYTES      1024u        /* what it takes beside its bytes: bounds the rows too */
#define XATTRS_BYTES_MAX      (64u * KIB)  /* names and values of the stored attributes of a node */
#define DATA_INLINE_BYTES_MAX 1024u        /* up to here the data lies in the node's row */
#define HOLDER_BYTES_MAX      255u         /* holder of a node, in its row */
#define GROUPS_MAX            64u          /* supplementary groups in an identity */
#define PATCH_RANGES_MAX      4096u        /* ranges in one write command */
#define MULTI_PARTS_MAX       4096u        /* changes in one transaction */

/* Log entries and messages. */
#define COMMAND_BYTES_MAX   (FILE_BYTES_MAX + 64u * KIB) /* data and what stands around it */
#define FRAME_BYTES_MAX     (4u * MIB)   /* one frame: some entries, or one answer */
#define FRAME_RAW_BYTES_MAX (3u * MIB)   /* raw bytes behind the message of a frame */
#define READDIR_BYTES_MAX   (256u * KIB) /* one page of a directory listing */

/* Sessions and connections. */
#define SESSION_WINDOW             512u /* slots of kept answers: writes in flight and their cancels */
#define WRITES_IN_FLIGHT_MAX       256u   /* unanswered writes of one session */
#define SESSIONS_MAX               65536u /* sessions of an ensemble */
#define CONNECTIONS_MAX            4096u  /* client connections of a replica */
#define REQUESTS_WAITING_MAX       4096u  /* requests of one connection that wait for something */
#define WRITES_WAITING_BYTES_MAX   (16u * MIB) /* and bytes of its writes; above: it is not read */
#define PROPOSALS_MAX              65536u      /* writes that wait in a replica, and their bytes; */
#define PROPOSALS_BYTES_MAX        (96u * MIB) /* above: nobody who writes is read */
#define FORWARD_UNSENT_BYTES_MAX   (4u * MIB)  /* to the leader; above: no more is forwarded */
#define SEND_QUEUE_BYTES_MAX       (16u * MIB) /* unsent bytes of one connection; above: closed */
#define PROMISES_PER_SESSION_MAX   1000000u    /* callbacks; at the limit the oldest is revoked */
#define PASSWORD_BYTES             16u         /* of a session */
#define LOCKS_PER_SESSION_MAX      65536u      /* locks held and waited for */
#define SESSION_TIMEOUT_MS_MIN     1000u
#define SESSION_TIMEOUT_MS_MAX     600000u
#define SESSION_TIMEOUT_MS_DEFAULT 10000u

/* Consensus. */
#define MEMBERS_MAX           16u                     /* voters and learners */
#define ADDRESS_BYTES_MAX     255u                    /* host:port of a member */
#define APPEND_BYTES_MAX      (1u * MIB + 128u * KIB) /* entries of one append message */
#define APPEND_ENTRIES_MAX    1024u                   /* entries of one append message */
#define INFLIGHT_MESSAGES_MAX 64u                     /* unanswered append messages per peer */
#define INFLIGHT_BYTES_MAX    (8u * MIB)              /* and their bytes */
#define UNCOMMITTED_BYTES_MAX (16u * MIB)             /* of a leader; above: proposals wait */
#define RAFT_TAIL_BYTES_MAX   (32u * MIB)             /* entries that the core keeps in memory */
#define READS_WAITING_MAX     65536u /* read-index requests that wait for a round */

/* Log and store. */
#define LOG_SEGMENT_BYTES     (64u * MIB)  /* a segment is sealed at this size */
#define LOG_GROUP_BYTES_MAX   (4u * MIB)   /* entries of one fdatasync */
#define OVERLAY_BYTES_MAX     (32u * MIB)  /* results not yet in RocksDB; above: apply waits */
#define OVERLAY_FREEZE_MS     50u          /* age at which the overlay is handed to RocksDB */
#define LOG_KEEP_BYTES        (256u * MIB) /* entries kept for members that fall behind */
#define SNAPSHOT_CHUNK_BYTES  (1u * MIB)   /* of one SnapshotChunk */
#define SNAPSHOT_FILES_MAX    100000u      /* of one snapshot */
#define STORE_FLUSH_LOG_BYTES (16u * MIB)  /* log since the last flush; bounds the start time */

/* Changes that a replica can tell of (server/history.h). */
#define HISTORY_CHANGES_MAX        100000u     /* that it remembers, */
#define HISTORY_BYTES_MAX          (32u * MIB) /* and their bytes in memory */
#define WATCHES_PER_CONNECTION_MAX 64u
#define WATCH_BYTES_MAX            (64u * KIB) /* of changes in one message, roughly */

/* Mount. */
#define CONTENT_CACHE_BYTES_MAX (64u * MIB) /* contents of closed files, unless cache= says more */

#endif
