# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# common.sh - what tools/quickstart and tools/runtests share; sourced by them, never run.
#
# The caller sets `program' to its own name and `source_dir' to the top of the source tree.
# Nothing here writes into the source tree: work is done on a copy of it below a private
# directory in /tmp, which cleanup() removes.

export LC_ALL=C.UTF-8
export PATH=$PATH:/usr/sbin:/sbin
umask 022 # the user cyrus has to read what root makes here
cyrus_bin=/usr/lib/cyrus/bin
private_dir=
policy_file=/usr/sbin/policy-rc.d
policy_placed=
policy_aside=

build_packages="autoconf automake libtool pkg-config gcc libc6-dev make xz-utils
    zlib1g-dev libdeflate-dev libsqlite3-dev libsasl2-dev libssl-dev uuid-dev libjansson-dev"
cyrus_packages="cyrus-common cyrus-imapd cyrus-replication cyrus-clients cyrus-admin
    sasl2-bin libsasl2-modules perl openssl"

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "$program" "$*" >&2
    exit 1
}

must_be_root() {
    [ "$(id -u)" -eq 0 ] ||
        die "run me as root: I install packages and start servers as the user cyrus"
}

# missing_packages NAME... : the names that are not installed, one a line
missing_packages() {
    local name
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
            printf '%s\n' "$name"
    done
}

# A package that brings a daemon starts it when it is installed, unless policy-rc.d forbids
# that. Forbid it for the time of the installation, whatever the host says otherwise: a Cyrus
# that runs is then neither stopped nor restarted, and one that does not is not started.
forbid_daemons() {
    if [ -e "$policy_file" ]; then
        "$policy_file" cyrus-imapd start >/dev/null 2>&1
        [ $? -eq 101 ] && return 0
        policy_aside=$policy_file.before-$program.$$
        mv "$policy_file" "$policy_aside"
    fi
    policy_placed=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy_file"
    chmod 755 "$policy_file"
}

allow_daemons() {
    [ -z "$policy_placed" ] || rm -f "$policy_file"
    [ -z "$policy_aside" ] || mv "$policy_aside" "$policy_file"
    policy_placed=
    policy_aside=
}

# need_packages NAME... : install those that are missing; nothing is downloaded when none is
need_packages() {
    local missing had_cyrus
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    must_be_root
    say "Installing: $missing"
    had_cyrus=$(dpkg-query -W -f '${db:Status-Status}' cyrus-common 2>/dev/null)
    forbid_daemons
    # shellcheck disable=SC2086
    if ! { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 update &&
        DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
            --no-install-recommends install $missing; } >"$private_dir/apt.log" 2>&1; then
        allow_daemons
        tail -n 30 "$private_dir/apt.log" >&2
        die "apt-get failed, see above"
    fi
    # A Cyrus that came only for the tests must not start at the next boot either.
    if [ "$had_cyrus" != installed ] && [ -d /run/systemd/system ]; then
        systemctl --quiet disable cyrus-imapd >/dev/null 2>&1
    fi
    allow_daemons
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -z "$missing" ] || die "still not installed: $missing"
}

# A directory for everything this run makes; user cyrus must be able to reach what is below it.
make_private_dir() {
    private_dir=$(mktemp -d "/tmp/cyrus-backups-$program.XXXXXX") || die "no private directory"
    chmod 755 "$private_dir"
}

remove_private_dir() {
    [ -n "$private_dir" ] || return 0
    case $private_dir in
    /tmp/cyrus-backups-*) rm -rf -- "$private_dir" ;;
    esac
    private_dir=
}

# copy_source DIR : the source tree as it stands, changes that are not committed included, but
# nothing that a build left in it
copy_source() {
    local git="git -c safe.directory=* -C $source_dir"
    mkdir -p "$1" || return 1
    if [ -e "$source_dir/.git" ] && $git rev-parse --git-dir >/dev/null 2>&1; then
        (cd "$source_dir" && $git ls-files -z --cached --others --exclude-standard |
            while IFS= read -r -d '' name; do
                [ ! -e "$name" ] || printf '%s\0' "$name"
            done | tar -c --null -T - -f -) | tar -x --no-same-owner -C "$1" -f -
    else
        tar -c -C "$source_dir" --exclude=./.git --exclude='*.o' --exclude='*.lo' \
            --exclude='*.la' --exclude=.libs --exclude=.deps --exclude=./config.status \
            --exclude=./Makefile --exclude=./config.h -f - . |
            tar -x --no-same-owner -C "$1" -f -
    fi
}

# free_ports N : that many TCP ports nobody listens on, below the range that the kernel hands out
free_ports() {
    perl -MIO::Socket::INET -e '
        my ($want, %seen, @held) = @ARGV;
        for (my $i = 0; $i < 5000 && @held < $want; $i++) {
            my $port = 15000 + int(rand(15000));
            next if $seen{$port}++;
            my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port,
                Listen => 1, Proto => "tcp") or next;
            push @held, $s;
        }
        die "no free ports\n" if @held < $want;
        print join(" ", map { $_->sockport } @held), "\n"' "$1"
}

# wait_for_port PORT PID : until someone answers there; fails when PID ends or a minute is over
wait_for_port() {
    perl -MIO::Socket::INET -e '
        my ($port, $pid) = @ARGV;
        for (my $end = time + 60; time < $end; select(undef, undef, undef, 0.05)) {
            exit 0 if IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $port,
                Proto => "tcp", Timeout => 5);
            exit 1 unless kill 0, $pid;
        }
        exit 1' "$1" "$2"
}

as_cyrus() {
    setpriv --reuid cyrus --regid mail --init-groups "$@"
}

# stop_group PID : end a server and its children; PID leads a process group that we made
stop_group() {
    local i
    kill -TERM -- "-$1" 2>/dev/null
    for ((i = 0; i < 100; i++)); do
        kill -0 -- "-$1" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL -- "-$1" 2>/dev/null
    wait "$1" 2>/dev/null
    return 0
}
