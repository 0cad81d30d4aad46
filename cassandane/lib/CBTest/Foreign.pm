# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Foreign - files that Debian's backupd (Cyrus 3.6.1) wrote, opened and continued by ours.
#
# run_foreign() leads a theme's life with Debian's backupd, killed now and then in the middle of a
# sync. What its file then does not hold of what the server has, and the syncs that it refuses, must be
# exactly what the test lists by name. Then a stock sync_client goes on with our backupd: what was missing
# is uploaded and nothing else, both sides are equal, and a second sync sends nothing.
package CBTest::Foreign;
use strict;
use warnings;
use CBTest::Compare qw(differences);
use CBTest::Relay;
use CBTest::Scenarios qw(synced_ok unwanted no_differences memory_ok);
use CBTest::Server qw(by_csync);
use CBTest::Upstream qw(history theme_site);
use CBTest::Util qw(as_cyrus program run_cmd sha1_hex slurp wait_until);
use Compress::Raw::Zlib;
use Exporter 'import';
use JSON;
use Test::More;
our @EXPORT_OK = qw(members run_foreign steps_from);

# The members of a data file: [offset, whole?].
sub members
{
    my ($data) = @_;
    my ($at, @found) = (0);
    while ($at < length $data) {
        my ($z) = Compress::Raw::Zlib::Inflate->new(-WindowBits => WANT_GZIP, -ConsumeInput => 1, -LimitOutput => 0);
        my $rest = substr $data, $at;
        my $text = '';
        my $status = $z->inflate($rest, $text);
        my $whole = $status == Z_STREAM_END;
        push @found, [$at, $whole];
        $at = $whole ? length($data) - length $rest : index $data, "\x1f\x8b\x08\0\0\0\0\0\0\3", $at + 1;
        last if $at < 0;
    }
    return @found;
}

# ---- Debian's backupd ------------------------------------------------------------------------

# A sync that a killed server has not spoilt: its files are free again in a moment.
sub sync
{
    my ($site, @how) = @_;
    my $r;
    eval {
        wait_until('the lock', sub {
            $r = $site->sync('proxy', @how);
            return !grep { ($_->{reply} // '') =~ /MAILBOX_LOCKED/ } @{ $r->{commands} };
        }, 20);
    };
    return $r;
}

# All steps of a theme. Each command that Debian's backupd refuses must match one of REFUSES
# ({ reason => regex }), and each of these is met. The steps after which sync_client -A fails are those of
# FAILS, and perhaps those of MAY: that depends on what the killed one had done.
sub live
{
    my ($site, $c, $steps, %o) = @_;
    my @trips = (180, 300, 900, 1700);
    my ($n, $kills, @refused, @failed) = (0, 0);
    for my $step (@{$steps}) {
        my $name = $step->[0];
        delete @{$c}{qw(fails resend unlogged)};
        ok(eval { $step->[1]->($c, 'all'); 1 }, "done: $name") or diag($@);
        if ($n++ % 2) {
            $site->{relay}->set_trip($trips[$n / 2 % @trips], $site->{backup}{pid}, 0);
            $site->sync('proxy', '-A');
            $kills++ unless $site->{relay}->clear_trip;
        }
        my @r = map { sync($site, @{$_}) } $n % 3 == 0 ? ['-R', '-1'] : (), ['-A'];
        my @now = map { "$_->{line} -> " . ($_->{reply} // '') } CBTest::Scenarios::refused(@r);
        push @refused, map { "$name: $_" } @now;
        push @failed, $name if $r[-1]{rc} != 0;
        note("Debian: after '$name': exit $r[-1]{rc}, refused: ", join ', ', map { substr $_, 0, 120 } @now)
            if $r[-1]{rc} != 0 || @now;
    }
    only('what Debian refuses', $o{refuses} // {}, @refused);
    my %may = map { $_ => 1 } @{ $o{may} // [] };
    is(join(', ', grep { !$may{$_} } @failed), join(', ', @{ $o{fails} // [] }), 'where its syncs fail');
    return $kills;
}

# ---- ours ------------------------------------------------------------------------------------

# Differences that are not among those expected ({ name => regex }); each of these must be there.
sub only
{
    my ($what, $expected, @differences) = @_;
    my (%seen, @other);
    for my $d (@differences) {
        my ($why) = grep { $d =~ $expected->{$_} } sort keys %{$expected};
        defined $why ? $seen{$why}++ : push @other, $d;
    }
    note("$what: $seen{$_} differences: $_") for sort keys %seen;
    no_differences($what, @other);
    is(join(', ', sort keys %seen), join(', ', sort keys %{$expected}), "$what: the exceptions are needed");
    return;
}

sub all_differences
{
    my ($site, $c, @users) = @_;
    my @all;
    for my $user (@users) {
        my @d = eval { differences($site, $user, full => 1, kept => $user eq $c->{user} ? $c->{kept} : undef) };
        push @all, map { "$user: $_" } @d, $@ ? $@ : ();
    }
    return @all;
}

# { guid => 1 } of messages that the server has and the backup cannot give; all_differences() has
# tried most of them. One that the server has expunged may be gone from its disk.
sub missing
{
    my ($site, $user) = @_;
    my %tried = %{ $site->{dumped}{$user} // {} };    # and had
    my %missing;
    my $source = by_csync($site, $user);
    for my $r (map { values %{ $_->{RECORD} } } values %{ $source->{MAILBOX} }) {
        next if $tried{ $r->{GUID} }++ || grep { defined && lc eq '\\expunged' } @{ $r->{FLAGS} };
        my $got = $site->cyr_backup($user, 'dump', 'message', $r->{GUID});
        $missing{ $r->{GUID} } = 1 if $got->{rc} != 0 || sha1_hex($got->{out}) ne $r->{GUID};
    }
    return \%missing;
}

# Names of the steps of a theme from one on.
sub steps_from
{
    my ($theme, $first) = @_;
    my $on;
    return grep { $on ||= $_ eq $first } map { $_->[0] } CBTest::Scenarios::steps_of($theme);
}

# Keys: refuses, fails, may as for live(); lacks: what the files do not hold, left: what stays different after the syncs, both as for only().
sub run_foreign
{
    my ($theme, %o) = @_;
    return subtest $theme => sub {
        local $ENV{PEER} = 'debian';
        my ($site, $c) = theme_site($theme);
        my $kills = live($site, $c, [CBTest::Scenarios::steps_of($theme)], %o);
        ok($kills > 1, "backupd was killed in $kills syncs");
        $site->{backup}->stop;
        my @users = ($c->users, map { m{(%SHARED)_} } $site->all_data_files);
        my $unfinished = grep { !$_->[1] } map { members(slurp($site->data_file($_))) } @users;
        ok($unfinished > 0, "$unfinished chunks were left unfinished");

        $ENV{PEER} = '';
        compacted($site, $_) for @users;
        $site->{backup}->write_config;
        $site->{backup}->start;
        only('the files hold what the server has', $o{lacks} // {}, all_differences($site, $c, @users));
        my %missing = map { %{ missing($site, $_) } } @users;
        my @results = $site->sync('proxy', '-A');
        synced_ok('the next sync', @results);
        my %uploaded = CBTest::Relay::uploaded(map { @{ $_->{commands} } } @results);
        is(join(' ', sort keys %uploaded), join(' ', sort keys %missing), 'what was missing is uploaded, nothing else');
        only('both sides equal', $o{left} // {}, all_differences($site, $c, @users));
        my @again = $site->sync('proxy', '-A');
        synced_ok('once more', @again);
        no_differences('it sends nothing', map { $_->{line} } unwanted(map { @{ $_->{commands} } } @again));
        memory_ok($site);
        $site->stop;
    };
}

# A copy of a backup, compacted by Debian's program: ours opens it, and finds every message and
# record in it that a plain reader of its lines finds.
sub compacted
{
    my ($site, $user) = @_;
    my $file = $site->data_file($user);
    (my $copy = "$site->{dir}/backup/tmp/compact-$user") =~ s/%//;
    run_cmd(cmd => [as_cyrus('cp', "$file$_", "$copy$_")]) for '', '.index', glob("$file.index-journal") ? '.index-journal' : ();
    my $r = $site->{backup}->tool({ timeout => 100 }, 'ctl_backups', '-F', 'compact', '-f', $copy);
    is($r->{rc}, 0, "$user: Debian compacts its file") or return diag("$r->{out}$r->{err}");
    isnt(slurp($copy), slurp($file), "$user: and that is another one");
    my (%state, %content, @d);
    # nothing is left of a backup whose only chunk was never finished
    my $history = -s $copy ? eval { history($copy, 1) } : { lines => [] };
    $history or return fail("$user: compacted: $@");
    for my $line (@{ $history->{lines} }) {
        my (undef, undef, $verb, $v) = @{$line};
        $content{ $_->{FILE}[1] } = $_->{FILE}[2] for $verb eq 'MESSAGE' ? @{$v} : ();
        next if $verb ne 'MAILBOX';
        $state{ $v->{UNIQUEID} }{ $_->{UID} } = $_ for @{ $v->{RECORD} };
        $state{ $v->{UNIQUEID} } //= {};
    }
    my $ours = sub {
        my $got = $site->{backup}->tool({ timeout => 100 }, program('cyr_backup'), '-f', $copy, @_);
        push @d, "@_: exit $got->{rc}: $got->{err}" if $got->{rc} != 0;
        return $got->{out};
    };
    my %told = map { $_->{uniqueid} => $_ } @{ scalar(eval { JSON->new->utf8->decode($ours->('json', 'mailboxes')) }) // [] };
    push @d, map { "mailbox $_ only in one" } grep { !$told{$_} || !$state{$_} } sort keys %{ { %told, %state } };
    for my $id (grep { $told{$_} } sort keys %state) {
        my %of = map { $_->{uid} => $_ } @{ $told{$id}{messages} // [] };
        for my $uid (sort { $a <=> $b } keys %{ $state{$id} }) {
            my $r = $state{$id}{$uid};
            my $gone = grep { defined && lc eq '\\expunged' } @{ $r->{FLAGS} };
            my $is = $of{$uid};
            push @d, "$told{$id}{mboxname} uid $uid: " . ($is ? 'differs' : 'not found')
                if ($content{ $r->{GUID} } || $is) && !($is && $is->{guid} eq $r->{GUID} && !$is->{expunged} == !$gone);
        }
    }
    my %named = map { $_->{GUID} => 1 } map { values %{$_} } values %state;
    my %listed = map { $_ => 1 } split /\n/, $ours->('list', 'messages');
    for my $guid (sort keys %content) {
        push @d, "message $guid differs" if sha1_hex($content{$guid}) ne $guid;
        # Debian's compaction drops what stands behind a literal, so no mailbox may be left that has it
        next if $listed{$guid};
        push @d, "message $guid not listed" if $named{$guid};
        push @d, "dump of $guid differs" if $ours->('dump', 'message', $guid) ne $content{$guid};
    }
    my ($some) = grep { $listed{$_} } sort keys %content;
    push @d, "dump of $some differs" if $some && $ours->('dump', 'message', $some) ne $content{$some};
    no_differences("$user: ours reads the compacted file", @d);
    return;
}

1;
