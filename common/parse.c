/* SPDX-License-Identifier: Apache-2.0
 *
 * Text from command lines, configuration and clients to numbers and addresses. Called by options
 * and configuration of all programs; calls nobody.
 *
 * Invariant: an out parameter changes only together with ERR_OK, and the whole text counts: no
 * blanks, signs or tails are skipped.
 */
#include "common/parse.h"

#include <stdbool.h>
#include <string.h>

#define MODE_MAX 07777u

static const char unix_prefix[] = "unix:";

/* Digits of a base up to 10; ERR_INVALID for anything else and above `max`. */
static enum err parse_digits(const char *text, size_t len, unsigned base, uint64_t max,
                             uint64_t *out)
{
    uint64_t value = 0;

    if (len == 0) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned digit = (unsigned)(unsigned char)text[i] - '0';

        if (digit >= base || value > (max - digit) / base || digit > max) {
            return ERR_INVALID;
        }
        value = value * base + digit;
    }
    *out = value;
    return ERR_OK;
}

enum err parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    enum err err = parse_digits(text, strlen(text), 10, max, &value);

    if (err != ERR_OK) {
        return err;
    }
    if (value < min) {
        return ERR_INVALID;
    }
    *out = value;
    return ERR_OK;
}

/* Bits to shift by for a suffix; 0: none. */
static unsigned shift_of(char suffix)
{
    switch (suffix) {
    case 'K':
        return 10;
    case 'M':
        return 20;
    case 'G':
        return 30;
    default:
        return 0;
    }
}

enum err parse_bytes(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    size_t len = strlen(text);
    unsigned shift = len > 0 ? shift_of(text[len - 1]) : 0;
    enum err err = parse_digits(text, len - (shift != 0), 10, max >> shift, &value);

    if (err != ERR_OK) {
        return err;
    }
    if (value << shift < min) {
        return ERR_INVALID;
    }
    *out = value << shift;
    return ERR_OK;
}

enum err parse_mode(const char *text, uint32_t *out)
{
    uint64_t value = 0;
    enum err err = parse_digits(text, strlen(text), 8, MODE_MAX, &value);

    if (err != ERR_OK) {
        return err;
    }
    *out = (uint32_t)value;
    return ERR_OK;
}

/* Letters and digits of ASCII only: isalnum depends on the locale. */
static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* A host name or IPv4 address, or with `v6` an IPv6 address (maybe with a zone). Not whether it
 * exists: that the resolver tells. */
static bool host_is_plausible(const char *host, size_t len, bool v6)
{
    const char *others = v6 ? ":.%_-" : ".-_";

    for (size_t i = 0; i < len; i++) {
        if (!is_alphanumeric(host[i]) && strchr(others, host[i]) == NULL) {
            return false;
        }
    }
    return len != 0 && (!v6 || memchr(host, ':', len) != NULL);
}

/* Hands out `len` bytes as a C string together with the port. */
static enum err give_host(const char *from, size_t len, uint16_t port, char *host,
                          size_t host_bytes, uint16_t *out_port)
{
    if (len >= host_bytes) {
        return ERR_INVALID;
    }
    memcpy(host, from, len);
    host[len] = '\0';
    *out_port = port;
    return ERR_OK;
}

enum err parse_address(const char *text, uint16_t default_port, char *host, size_t host_bytes,
                       uint16_t *out_port)
{
    bool v6 = text[0] == '[';
    const char *begin = v6 ? text + 1 : text;
    const char *end = NULL;
    const char *tail = NULL;
    uint64_t port = default_port;

    if (strncmp(text, unix_prefix, strlen(unix_prefix)) == 0) {
        const char *path = text + strlen(unix_prefix);

        if (path[0] != '/') {
            return ERR_INVALID;
        }
        return give_host(path, strlen(path), 0, host, host_bytes, out_port);
    }
    end = begin + strcspn(begin, v6 ? "]" : ":");
    if (v6 && *end != ']') {
        return ERR_INVALID;
    }
    tail = v6 ? end + 1 : end;
    if (!host_is_plausible(begin, (size_t)(end - begin), v6)) {
        return ERR_INVALID;
    }
    if (*tail == ':') {
        enum err err = parse_u64(tail + 1, 1, UINT16_MAX, &port);

        if (err != ERR_OK) {
            return err;
        }
    } else if (*tail != '\0') {
        return ERR_INVALID;
    }
    return give_host(begin, (size_t)(end - begin), (uint16_t)port, host, host_bytes, out_port);
}
