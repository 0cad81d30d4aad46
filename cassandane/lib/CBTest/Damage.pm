# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Damage - a small backup, every file of which can be damaged and made whole again.
# restore() puts all files of the backup host back as they were when the object was made.
package CBTest::Damage;
use strict;
use warnings;
use CBTest::Case;
use CBTest::Files;
use CBTest::Imap;
use CBTest::Site;
use CBTest::Util qw(as_cyrus program run_cmd sha1_hex slurp);
use Test::More;

# A site, and the case of its user alice, who has a little of everything, in six commits.
sub small_site
{
    my $site = CBTest::Site->new(users => ['alice'], options => { backup => { backup_error_pause => '0' } });
    my $c = CBTest::Case->new(site => $site, user => 'alice');
    my @script = ('main', "keep;\r\nstop;\r\n");
    for my $step (
        sub { $c->{imap}->append('INBOX', CBTest::Imap::message(subject => 'one')) },
        sub { $c->{imap}->must(create => 'INBOX.Work'); $c->{imap}->must(subscribe => 'INBOX.Work') },
        sub { $c->{imap}->append('INBOX.Work', CBTest::Imap::message(subject => $_)) for qw(two three) },
        sub { $c->expunge('Work', 1) },
        sub { my $s = $site->sieve_as('alice'); $s->put(@script); $s->activate('main') },
        sub { $c->{imap}->append('INBOX', CBTest::Imap::message(subject => 'four')) },
        )
    {
        $step->();
        is($site->sync('unix', '-u', 'alice')->{rc}, 0, 'sync');
    }
    return ($site, $c);
}

# Of a site's backup of a user; nobody may have it open.
sub new
{
    my ($class, $site, $user) = @_;
    my $self = bless { site => $site, user => $user, file => $site->data_file($user),
        part => "$site->{backup}{dir}/part", db => "$site->{backup}{dir}/conf/backups.db" }, $class;
    $self->{kept} = CBTest::Files->new(@{$self}{qw(part db)});
    $self->{data} = slurp($self->{file});
    $self->{members} = [members($self->{data})];
    my $rows = $self->tool({ cmd => ['sqlite3', "$self->{file}.index",
        'SELECT lower(hex(guid)), chunk FROM contents WHERE chunk NOT NULL'] })->{out};
    $self->{chunk_of} = { $rows =~ /^(\w+)\|(\d+)$/mg };
    return $self;
}

sub shell
{
    my ($self, @words) = @_;
    my $r = run_cmd(cmd => [as_cyrus('sh', '-ec', @words)], tmp => $self->{site}{dir});
    die "@words: $r->{err}" if $r->{rc} != 0;
    return;
}

sub restore
{
    my ($self) = @_;
    $self->{kept}->restore;
    return;
}

# Where the members of a data file are: { at, end, commit, seq }. Only our own have that said.
sub members
{
    my ($bytes) = @_;
    my @found;
    for (my $at = 0; $at < length $bytes;) {
        substr($bytes, $at, 16) =~ /^\x1f\x8b\x08\x04.{6}\x1c\x00CB\x18\x00/s or die "no member at $at\n";
        my ($flags, $low, $high, undef, $seq) = unpack 'x C V v a8 V', substr $bytes, $at + 16, 24;
        my $end = $at + $low + $high * 2**32;
        push @found, { at => $at, end => $end, commit => $flags & 1, seq => $seq };
        $at = $end;
    }
    return @found;
}

# The member at an offset, and all that were confirmed with it.
sub group
{
    my ($self, $at) = @_;
    my (@group, $hit);
    for my $m (@{ $self->{members} }) {
        push @group, $m;
        $hit = $m if $at >= $m->{at} && $at < $m->{end};
        next unless $m->{commit};
        return ($hit, @group) if $hit;
        @group = ();
    }
    die "$at is in no member\n";
}

# Change a byte of a file, or cut it there.
sub flip
{
    my ($self, $file, $at) = @_;
    open my $fh, '+<:raw', $file or die "$file: $!";
    seek $fh, $at, 0;
    read $fh, my $byte, 1;
    seek $fh, $at, 0;
    print {$fh} chr(ord($byte) ^ ($at % 2 ? 0xff : 1 << $at % 8));
    close $fh or die "$file: $!";
    return;
}

sub cut
{
    my ($self, $file, $at) = @_;
    truncate $file, $at or die "$file: $!";
    return;
}

# Run one of our programs: tool('cyr_backup', ...), or another: tool({ cmd => [...] }).
sub tool
{
    my ($self, @words) = @_;
    my %o = ref $words[0] ? %{ shift @words } : ();
    my @cmd = @{ delete $o{cmd} // [program(shift @words), '-C', $self->{site}{backup}->conf, @words] };
    return run_cmd(timeout => 60, %o, cmd => [as_cyrus(@cmd)], env => $self->{site}->env,
        tmp => $self->{site}{dir});
}

# Dump every message: { guid => 'whole', 'wrong' or the exit code }.
sub messages
{
    my ($self) = @_;
    my %got;
    for my $guid (sort keys %{ $self->{chunk_of} }) {
        my $r = $self->tool('cyr_backup', $self->{user}, 'dump', 'message', $guid);
        $got{$guid} = $r->{rc} ? $r->{rc} : sha1_hex($r->{out}) eq $guid ? 'whole' : 'wrong';
    }
    return \%got;
}

1;
