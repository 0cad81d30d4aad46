# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Sides - one mail server that is backed up twice, by our backupd and by Debian's, and the
# ctl_backups and cyr_backup of each side, run with the same arguments.
package CBTest::Sides;
use strict;
use warnings;
use CBTest::Master;
use CBTest::Site;
use CBTest::Util qw(as_cyrus program run_cmd);
use Test::More;

my $DEBIAN = '/usr/lib/cyrus/bin';

# backup: more options of imapd.conf for both.
sub new
{
    my ($class, %o) = @_;
    my $options = $o{backup} // {};
    my $theirs = CBTest::Master->new(options => { 'backuppartition-default' => '%', backup_db => 'twoskip',
        admins => 'admin', allowplaintext => 'yes', unixhierarchysep => 'no', altnamespace => 'no', %{$options} });
    $theirs->configure('backuppartition-default' => "$theirs->{dir}/part",
        backup_db_path => "$theirs->{dir}/conf/backups.db", backup_staging_path => "$theirs->{dir}/tmp");
    $theirs->start(['backupd', 'backupd', "$theirs->{dir}/conf/backupd.sock", 'prefork=0']);
    my $site = CBTest::Site->new(users => $o{users}, $o{clock} ? (clock => 1) : (), options => {
        imap => { debian_sync_host => "$theirs->{dir}/conf/backupd.sock" }, backup => $options });
    return bless {
        site => $site, master => $theirs,
        conf => { ours => $site->{backup}->conf, theirs => $theirs->conf },
        more => { ours => $o{ours} // [], theirs => [] }, # arguments of ctl_backups
    }, $class;
}

sub sides { return qw(ours theirs) }

# The same state on both.
sub sync
{
    my ($self, @args) = @_;
    is($self->{site}->sync($_, @args)->{rc}, 0, "sync_client @args to $_") for qw(tcp debian);
    return;
}

sub program_of
{
    my ($self, $side, $name) = @_;
    return $side eq 'ours' ? program($name) : "$DEBIAN/$name";
}

# A program of one side; perhaps a hash of options of run_cmd() first, and the name of the program.
sub run
{
    my ($self, $side, @args) = @_;
    my %o = ref $args[0] eq 'HASH' ? %{ shift @args } : ();
    my $name = delete $o{name} // 'ctl_backups';
    return run_cmd(timeout => 100, %o,
        cmd => [as_cyrus($self->program_of($side, $name), '-C', $self->{conf}{$side},
            $name eq 'ctl_backups' ? @{ $self->{more}{$side} } : (), @args)]);
}

sub db
{
    my ($self, $side, @words) = @_;
    my $dir = $self->{conf}{$side} =~ s{/imapd.conf$}{}r;
    my $r = run_cmd(cmd => [as_cyrus("$DEBIAN/cyr_dbtool", '-C', $self->{conf}{$side}, "$dir/conf/backups.db",
        'twoskip', @words)]);
    die $r->{err} if $r->{rc};
    return $r->{out};
}

sub data_file
{
    my ($self, $side, $user) = @_;
    chomp(my $path = $self->db($side, 'get', $user));
    return $path;
}

# What both do: the results by side. A reference to a string among the arguments is the path of that
# user's data file; NORMAL->(text, side) leaves of each stdout and stderr what must be the same.
sub both
{
    my ($self, $normal, @args) = @_;
    my %r;
    for my $side (sides()) {
        $r{$side} = $self->run($side, map { ref $_ eq 'SCALAR' ? $self->data_file($side, ${$_}) : $_ } @args);
        $r{$side}{$_} = $normal->($r{$side}{$_}, $side) for qw(out err);
    }
    return \%r;
}

sub name_of { return join ' ', map { ref $_ eq 'SCALAR' ? "FILE(${$_})" : $_ } grep { ref $_ ne 'HASH' } @_ }

sub same
{
    my ($self, $label, $normal, @args) = @_;
    my $r = $self->both($normal, @args);
    my $name = name_of(@args);
    is($r->{ours}{$_}, $r->{theirs}{$_}, "$name: $_ ($label)") for qw(out err rc);
    return $r->{ours};
}

sub stop
{
    my ($self) = @_;
    $self->{site}->stop;
    $self->{master}->stop;
    return;
}

1;
