# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Sentry - a backup server that is treated badly, and what must be true after each time:
# there is an answer, the next command on the same connection works, the process is the same one
# and has not grown, and all that was acknowledged before is still there.
package CBTest::Sentry;
use strict;
use warnings;
use CBTest::Compare qw(backup_state crc_differences);
use CBTest::Feed qw(message);
use CBTest::Site;
use CBTest::Util qw(run_cmd slurp wait_until peak_memory);
use Test::More;

our $MEMORY_MAX = $ENV{MAX_RSS} // 32 * 1024;    # KiB; sanitizers need more

# Keys: options (of imapd.conf). Starts a backup server that has a backup of alice.
sub new
{
    my ($class, %o) = @_;
    $SIG{PIPE} = 'IGNORE';
    my $site = CBTest::Site->new(roles => ['backup'], options => {
        backup => { backup_lock_wait => '1s', backup_error_pause => '1s', %{ $o{options} // {} } },
    });
    my $self = bless { site => $site }, $class;
    $self->{box} = CBTest::Feed->new(mboxname => 'user.alice');
    $self->{box}->append(message("alice $_", 200 * $_), '\\Seen') for 1 .. 3;
    $self->{box}->append(message('alice, larger', 300_000));
    $self->connect;
    $self->{box}->sync($self->{c});
    $self->acknowledged;
    return $self;
}

# A new connection, in place of the present one; and which process serves it. It is the only one
# that comes by TCP and logs in.
sub connect
{
    my ($self) = @_;
    my $find = sub {
        my ($file) = grep { (slurp($_) // '') =~ /\tadmin\t/ } glob "$self->{site}{backup}{dir}/conf/proc/*";
        return $file && $file =~ m{(\d+)$} ? $1 : undef;
    };
    delete $self->{c};
    wait_until('the last connection to end', sub { !$find->() });
    $self->{c} = CBTest::CSync->new(port => $self->{site}{port}{backup}, user => 'admin', patience => 20);
    $self->{pid} = wait_until('the proc file', $find);
    return $self->{c};
}

# What is there now must be there from now on.
sub acknowledged
{
    my ($self) = @_;
    $self->{listing} = $self->listing;
    $self->{state} = backup_state($self->{site}, 'alice');
    return;
}

sub listing
{
    my ($self) = @_;
    my $r = $self->{c}->command('GET USER alice');
    return join "\n", @{ $r->{lines} }, $r->{text};
}

# All is well, on this connection and in the backup. One test.
sub sound
{
    my ($self, $label) = @_;
    my @wrong;
    my $listing = eval { $self->listing } // "GET USER: $@";
    push @wrong, "listing is\n$listing" if $listing ne $self->{listing};
    push @wrong, 'the process has gone' unless kill 0 => $self->{pid};
    my $kib = peak_memory($self->{pid}) // 0;
    push @wrong, "VmHWM is $kib KiB" if $kib > $MEMORY_MAX;
    my $state = eval { backup_state($self->{site}, 'alice') };
    push @wrong, "cyr_backup: $@" unless $state;
    push @wrong, 'the backup is another' unless eq_hash($state // {}, $self->{state});
    push @wrong, crc_differences($state) if $state;
    ok(!@wrong, "$label: all is well after it") and return;
    diag(map { "$_\n" } @wrong);
    $self->connect if $listing =~ /^GET USER:/;
    $self->acknowledged;
    return;
}

# Send bytes (a CRLF is added), see the final line of the answer, and that all is well. Two tests.
sub answers
{
    my ($self, $label, $bytes, $expected) = @_;
    my $r = eval {
        $self->{c}->send_raw($_) for ref $bytes ? @{$bytes} : $bytes;
        $self->{c}->send_raw("\r\n");
        $self->{c}->answer;
    } // { text => "none: $@", lines => [] };
    ref $expected ? like($r->{text}, $expected, $label) : is($r->{text}, $expected, $label);
    $self->sound($label);
    return $r;
}

# Is a text anywhere in what the backup holds, uncompressed? Looks into all data files.
sub stored
{
    my ($self, $text) = @_;
    return grep { index(unzipped($_), $text) >= 0 } $self->{site}->all_data_files;
}

sub unzipped
{
    my ($file) = @_;
    open my $pipe, '-|', 'zcat', $file or die "zcat: $!";
    binmode $pipe;
    local $/;
    my $text = <$pipe> // '';
    close $pipe or die "zcat $file: exit $?\n";
    return $text;
}

# Names of all files of the site, but those that come and go by themselves.
sub files
{
    my ($self) = @_;
    my @cmd = ('find', $self->{site}{dir}, qw(-path */conf/proc/* -o -path */conf/db* -o -print));
    return sort split /\n/, run_cmd(cmd => \@cmd)->{out};
}

# No process of the server ever took more than it may. One test.
sub modest
{
    my ($self) = @_;
    my $kib = $self->{site}->note_memory;
    cmp_ok($kib, '<=', $MEMORY_MAX, "no process took more than $MEMORY_MAX KiB");
    return;
}

1;
