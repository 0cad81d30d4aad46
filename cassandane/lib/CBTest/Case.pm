# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Case - what a scenario works with: a site, a user whose mailboxes things happen to,
# another who reads them, connections of both, and the names of mailboxes as each of them
# has to write them.
#
# Fields that scenarios use: site, user, reader, imap (the user's connection), admin,
# others (users that are synced and compared, too), gone (users that the server has no more),
# fails (a reason why sync_client must fail in this step), resend (1: the backup server must ask
# for everything once), unlogged (what is not in the rolling log, and why), kept (see CBTest::Compare), contents (the same).
package CBTest::Case;
use strict;
use warnings;
use CBTest::Util qw(spew wait_until);

sub new
{
    my ($class, %o) = @_;
    my $self = bless { others => [], gone => [], %o }, $class;
    $self->login;
    return $self;
}

# New connections: imapd remembers who a user is, and which annotations there were.
sub login
{
    my ($self) = @_;
    my $site = $self->{site};
    delete @{$site}{qw(clients admin)};
    $self->{imap} = $site->imap_as($self->{user});
    $self->{admin} = $site->admin;
    return;
}

# Everybody who is synced with -u and compared.
sub users { return ($_[0]{user}, $_[0]{reader}, @{ $_[0]{others} }) }

# The internal name of one of the user's folders; '' is the INBOX.
sub name { return $_[0]{site}->names->folder($_[0]{user}, $_[1] // '') }

# The same as the user says it, as the administrator does, and as the reader does.
sub own
{
    my ($self, $path) = @_;
    return $self->{site}->names->for_user($self->{user}, $self->name($path));
}

sub adm
{
    my ($self, $path) = @_;
    return $self->{site}->names->for_admin($self->name($path));
}

sub theirs
{
    my ($self, $path) = @_;
    return $self->{site}->names->for_user($self->{reader}, $self->name($path));
}

# A folder of any other user, as the administrator says it.
sub of_user
{
    my ($self, $user, $path) = @_;
    my $names = $self->{site}->names;
    return $names->for_admin($names->folder($user, $path));
}

# A shared folder in the domain of the user, as the administrator says it.
sub shared
{
    my ($self, $path) = @_;
    my $names = $self->{site}->names;
    my ($domain) = $names->parts($names->inbox($self->{user}));
    return $names->for_admin(($domain eq '' ? '' : "$domain!") . 'shared' . ($path eq '' ? '' : ".$path"));
}

# ---- what many scenarios do --------------------------------------------------------------

# Wait for the next second: imapd names what is deleted by the second, and cannot delete two
# folders of one name in the same.
sub next_second
{
    my $now = time;
    return wait_until('the next second', sub { time > $now });
}

# Run code with one of the user's folders selected.
sub in_folder
{
    my ($self, $path, $code) = @_;
    my $imap = $self->{imap};
    $imap->must(select => $self->own($path));
    my @r = $code->($imap);
    $imap->must('unselect');
    return @r;
}

sub fill
{
    my ($self, $path, @messages) = @_;
    $self->{imap}->append($self->own($path), $_) for @messages;
    return;
}

sub expunge
{
    my ($self, $path, $uids) = @_;
    return $self->in_folder($path, sub {
        my ($imap) = @_;
        $imap->must(store => $uids, '+FLAGS', '(\\Deleted)');
        $imap->must('expunge');
    });
}

# One of Cyrus' own programs on the mail server, perhaps after a hash of options of run_cmd();
# dies unless it succeeds.
sub tool
{
    my ($self, @command) = @_;
    my $r = $self->{site}{imap}->tool(@command);
    shift @command if ref $command[0];
    die "@command: exit $r->{rc}: $r->{out}$r->{err}\n" if $r->{rc} != 0;
    return $r->{out};
}

# The directory of one of the user's folders on the server's disk.
sub spool_dir
{
    my ($self, $path) = @_;
    my $dir = $self->tool('mbpath', $self->adm($path));
    chomp $dir;
    die "mbpath: no directory $dir\n" unless -d $dir;
    return $dir;
}

# Files in there, as if they had always been: [name, bytes].
sub put_files
{
    my ($self, $path, @files) = @_;
    my $dir = $self->spool_dir($path);
    for my $file (@files) {
        spew("$dir/$file->[0]", $file->[1]);
    }
    return unless $> == 0;
    my ($uid, $gid) = (getpwnam 'cyrus')[2, 3];
    my @names = map { "$dir/$_->[0]" } @files;
    chown($uid, $gid, @names) == @names or die "chown: $!\n";
    return;
}

1;
