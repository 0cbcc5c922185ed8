/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes log lines to stderr. All modules but the pure ones call it; it calls the clock.
 *
 * Invariants:
 *   1. One event is one line and one write(2): lines of several threads do not mix.
 *   2. A line has no control character but its closing newline, whatever the values hold: nobody
 *      outside can forge a line.
 *   3. errno is the caller's own afterwards.
 */
#include "common/logging.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

#define LINE_BYTES_MAX 2048u /* longer lines are cut and end in "..." */

static atomic_int level_max = LOG_LEVEL_INFO;

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR:
        return "error";
    case LOG_LEVEL_WARN:
        return "warn";
    case LOG_LEVEL_INFO:
        return "info";
    case LOG_LEVEL_DEBUG:
        return "debug";
    }
    return "unknown";
}

/* The beginning of every line; returns its length. */
static size_t format_head(char *line, size_t line_bytes, enum log_level level, const char *at,
                          const char *event)
{
    int64_t now_ns = clock_realtime_ns();
    time_t seconds = (time_t)(now_ns / 1000000000);
    int milliseconds = (int)(now_ns / 1000000 % 1000);
    struct tm utc = {0};
    char stamp[32] = "";
    int len = 0;

    if (gmtime_r(&seconds, &utc) == NULL ||
        strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc) == 0) {
        stamp[0] = '\0';
    }
    len = snprintf(line, line_bytes, "ts=%s.%03dZ level=%s at=%s event=%s", stamp, milliseconds,
                   level_name(level), at, event);
    if (len < 0) {
        return 0;
    }
    return (size_t)len < line_bytes ? (size_t)len : line_bytes - 1;
}

/* Ends the line of `len` characters, of which the buffer holds as many as fit; returns the bytes
 * to write. */
static size_t close_line(char *line, size_t line_bytes, size_t len)
{
    if (len >= line_bytes) {
        len = line_bytes - 1;
        memset(line + len - 3, '.', 3);
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) {
            line[i] = '?';
        }
    }
    line[len] = '\n'; /* in the place of the NUL */
    return len + 1;
}

void logging_set_level(enum log_level level)
{
    atomic_store(&level_max, (int)level);
}

void logging_write(enum log_level level, const char *at, const char *event, const char *format, ...)
{
    int errno_before = errno;
    char line[LINE_BYTES_MAX];
    size_t len = 0;
    va_list arguments;

    if ((int)level > atomic_load(&level_max)) {
        return;
    }
    len = format_head(line, sizeof(line), level, at, event);
    if (format[0] != '\0' && len + 1 < sizeof(line)) {
        int added = 0;

        line[len] = ' ';
        len++;
        va_start(arguments, format);
        added = vsnprintf(line + len, sizeof(line) - len, format, arguments);
        va_end(arguments);
        len += added > 0 ? (size_t)added : 0;
    }
    len = close_line(line, sizeof(line), len);
    /* A log that cannot be written must not stop what it tells about. */
    while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR) {
    }
    errno = errno_before;
}
