# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::LifeShared - what happens to the mailboxes of nobody, below "shared", at random: a
# CBTest::Life that an administrator leads. There are no subscriptions, scripts and private notes.
package CBTest::LifeShared;
use strict;
use warnings;
use parent -norequire, 'CBTest::Life';
use CBTest::Life;

my @EVENTS = (mail => 22, flags => 18, copy => 6, move => 7, expunge => 10, create => 9, rename => 6,
    delete => 4, replace => 3, rights => 2);
my @DICE = CBTest::Life::weighed(@EVENTS);

# Keys: site, at_once. The root is made here.
sub new
{
    my ($class, %o) = @_;
    my $self = CBTest::Life::new($class, %o, user => '%SHARED');
    $self->{admin}->must(create => $self->adm(''));
    $self->{admin}->must(setacl => $self->adm(''), 'admin', 'lrswipkxtecdan');
    return $self;
}

sub imap { return $_[0]{site}->admin }

sub internal { my ($self, $path) = @_; return $path eq '' ? 'shared' : "shared.$path" }

sub own { my ($self, $path) = @_; return $self->adm($path) }

sub dice { return @DICE }

1;
