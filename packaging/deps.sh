#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs what building and testing quorumfs needs, on Debian 12. Says nothing and changes
# nothing when all is there.
set -eu

packages="
    gcc make clang clang-format clang-tidy libclang-rt-14-dev pkg-config libc6-dev
    libfuse3-dev fuse3 libuv1-dev libprotobuf-c-dev protobuf-c-compiler librocksdb-dev
    libxxhash-dev uthash-dev libinih-dev libssl-dev libjansson-dev libsystemd-dev libbsd-dev
    libcmocka-dev bats shellcheck nginx-light
    inotify-tools attr faketime e2fsprogs iproute2 nftables procps rsync python3
    git fio stress-ng sqlite3 vim-tiny zip unzip entr
"

if ! command -v dpkg-query >/dev/null; then
    echo "deps.sh: not a Debian system; these packages of Debian 12 are needed: $packages" >&2
    exit 1
fi

# dpkg-query tells the installed ones on stdout and fails for unknown ones, which is fine.
# shellcheck disable=SC2086 # the words of the list are wanted
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $packages 2>/dev/null || true)
missing=
for package in $packages; do
    case "
$installed
" in
    *"
$package installed
"*) ;;
    *) missing="$missing $package" ;;
    esac
done
if [ -z "$missing" ]; then
    exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
    echo "deps.sh: packages are missing; run as root: apt-get install$missing" >&2
    exit 1
fi
echo "deps.sh: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
if ! apt-get install -qq -y --no-install-recommends $missing >/dev/null 2>&1; then
    # The package lists may be missing or old.
    apt-get update -qq >&2
    # shellcheck disable=SC2086
    apt-get install -qq -y --no-install-recommends $missing >&2
fi
