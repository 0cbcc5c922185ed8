/* SPDX-License-Identifier: Apache-2.0
 *
 * One line, one event, on stderr: `ts=2026-01-31T12:00:00.123Z level=info at=replica
 * event=leader_change term=7 leader=2`. Units in the key. Never file contents or secrets.
 *
 * error: somebody must act; warn: we coped; info: rare state changes; debug: off unless asked.
 * Any thread; a line is written with one write(2).
 */
#ifndef QUORUMFS_COMMON_LOGGING_H
#define QUORUMFS_COMMON_LOGGING_H

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARN,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
};

/* The least important level that is written; info at start. */
void logging_set_level(enum log_level level);

/* `at` is the module, `event` a word; `format` gives `key=value` pairs, a value with blanks in
 * double quotes by the caller. "" for none. */
void logging_write(enum log_level level, const char *at, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define log_error(at, event, ...) logging_write(LOG_LEVEL_ERROR, at, event, __VA_ARGS__)
#define log_warn(at, event, ...)  logging_write(LOG_LEVEL_WARN, at, event, __VA_ARGS__)
#define log_info(at, event, ...)  logging_write(LOG_LEVEL_INFO, at, event, __VA_ARGS__)
#define log_debug(at, event, ...) logging_write(LOG_LEVEL_DEBUG, at, event, __VA_ARGS__)

#endif
