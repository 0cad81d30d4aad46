# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Holder - another program that holds the lock of a data file, with the POSIX fcntl lock
# of stock Cyrus programs: CBTest::Holder->new($file), ->release.
package CBTest::Holder;
use strict;
use warnings;
use Fcntl qw(F_SETLK F_SETLKW F_WRLCK O_RDWR SEEK_SET);
use POSIX ();

# struct flock of 64-bit Linux: whole file
sub flock_bytes { return pack 's s x4 q q i x4', $_[0], SEEK_SET, 0, 0, 0 }

# Can somebody else lock this file right now? Does not keep it.
sub is_free
{
    my ($file) = @_;
    sysopen my $fh, $file, O_RDWR or die "$file: $!";
    return fcntl($fh, F_SETLK, flock_bytes(F_WRLCK)) ? 1 : 0;
}

# Waits for the lock. The lock belongs to a process of its own: this one would lose it by closing
# any other descriptor of the file.
sub new
{
    my ($class, $file) = @_;
    pipe my $from, my $ready or die "pipe: $!";
    pipe my $hold, my $to or die "pipe: $!";
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        # neither the test's connections nor the pipes of other holders
        my %mine = map { fileno $_ => 1 } $ready, $hold;
        POSIX::close($_) for grep { !$mine{$_} } 3 .. 255;
        my $fh;
        my $ok = sysopen($fh, $file, O_RDWR) && fcntl($fh, F_SETLKW, flock_bytes(F_WRLCK));
        syswrite $ready, $ok ? 'y' : 'n';
        sysread $hold, my $end, 1;    # until release(), or until the test has gone
        POSIX::_exit(0);
    }
    close $ready;
    close $hold;
    my $self = bless { pid => $pid, to => $to, owner => $$ }, $class;
    sysread $from, my $answer, 1;
    die "cannot lock $file\n" if ($answer // '') ne 'y';
    return $self;
}

sub release
{
    my ($self) = @_;
    my $pid = delete $self->{pid} // return;
    kill KILL => $pid;
    waitpid $pid, 0;
    return;
}

sub DESTROY
{
    my ($self) = @_;
    local ($?, $@, $!);
    $self->release if $self->{owner} == $$;
    return;
}

1;
