# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Site - a private little world below TMPDIR: mail server, backup server, perhaps
# a replica, their users, and the relay that listens between sync_client and backupd.
# It ends all its processes and removes its directory when the test ends, however it ends.
# KEEP=1 keeps the directory.
package CBTest::Site;
use strict;
use warnings;
use CBTest::CSync;
use CBTest::Clock;
use CBTest::Imap;
use CBTest::Instance;
use CBTest::Lmtp;
use CBTest::Names;
use CBTest::Relay;
use CBTest::Sieve;
use CBTest::Util qw(as_cyrus run_cmd start_cmd reap free_port wait_until processes_of guard_dir unguard_dir
    clock_files peak_memory is_debian program scratch slurp);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use POSIX ();
use Time::HiRes qw(sleep time);

my %living;    # directory -> site, for END and the signals

# Keys: roles (default imap and backup), users (names), options => { role => { key => value } },
# maxchild: processes of each service at the most, clock: the backup host has a CBTest::Clock.
# Everything is started when new() returns.
sub new
{
    my ($class, %o) = @_;
    die program('backupd') . " is missing: set BUILDDIR to the build directory\n"
        unless is_debian() || -x program('backupd');
    my $dir = tempdir('cbtest-XXXXXX', DIR => scratch());
    chmod 0755, $dir;
    my $self = bless { dir => $dir, owner => $$, peak => 0, maxchild => $o{maxchild} // 30 }, $class;
    $self->{names} = CBTest::Names->new(%{ $o{options}{imap} // {} });
    $living{$dir} = $self;
    $self->{guard} = guard_dir($dir);
    run_cmd(cmd => ['chown', 'cyrus:mail', $dir]) if $> == 0;
    $self->{clock} = CBTest::Clock->new($dir) if $o{clock};
    $self->{port}{$_} = free_port() for qw(imap sieve http backup relay replica replica_imap);
    $self->add_user($_) for qw(admin cyrus), @{ $o{users} // [] };
    for my $role (@{ $o{roles} // [qw(imap backup)] }) {
        $self->{$role} = CBTest::Instance->new(site => $self, name => $role,
            options => $o{options}{$role});
        $self->{$role}->start;
    }
    $self->create_mailboxes($_) for @{ $o{users} // [] };
    $self->{relay} = CBTest::Relay->new($self)->start if $self->{backup};
    return $self;
}

sub names { return $_[0]{names} }

sub env
{
    my ($self) = @_;
    return {
        CBTEST_DIR => $self->{dir},
        $> == 0 ? () : (CYRUS_USER => scalar getpwuid $>),
    };
}

sub add_user
{
    my ($self, $user) = @_;
    my $db = "$self->{dir}/sasldb2";
    my ($name, $realm) = $user =~ /^(.*)\@(.*)\z/ ? ($1, $2) : ($user, 'localhost');
    my $r = run_cmd(cmd => [as_cyrus(qw(saslpasswd2 -p -c -f), $db, '-u', $realm, $name)],
        input => "${user}pw\n", tmp => $self->{dir});
    die "saslpasswd2 $user: $r->{err}" if $r->{rc} != 0;
    return;
}

# The INBOX of a user. admin may read it, so that DELETED folders can be looked at.
sub create_mailboxes
{
    my ($self, $user) = @_;
    return unless $self->{imap};
    my $admin = $self->admin;
    my $inbox = $self->names->for_admin($self->names->inbox($user));
    $admin->must(create => $inbox);
    $admin->must(setacl => $inbox, 'admin', 'lrswipkxtecdan');
    return;
}

# ---- connections ---------------------------------------------------------

sub admin
{
    my ($self) = @_;
    return $self->{admin} //= CBTest::Imap->new(port => $self->{port}{imap}, user => 'admin');
}

sub imap_as
{
    my ($self, $user) = @_;
    return $self->{clients}{$user} //= CBTest::Imap->new(port => $self->{port}{imap}, user => $user);
}

sub sieve_as
{
    my ($self, $user) = @_;
    return CBTest::Sieve->new(port => $self->{port}{sieve}, user => $user);
}

sub deliver
{
    my ($self, $user, @messages) = @_;
    return CBTest::Lmtp->new("$self->{imap}{dir}/conf/lmtp")->deliver($user, @messages);
}

# csync to the mail server itself: what a client has to say about its own mailboxes.
sub source_csync
{
    my ($self) = @_;
    return CBTest::CSync->new(path => "$self->{imap}{dir}/conf/csync.sock");
}

# csync to the backup server.
sub backup_csync
{
    my ($self) = @_;
    return CBTest::CSync->new(path => "$self->{backup}{dir}/conf/backupd.sock");
}

# ---- sync_client ---------------------------------------------------------

# sync('proxy', '-u', 'alice'): run sync_client over a channel (tcp, unix, proxy).
# Returns { rc, out, err, secs, commands } - commands only for proxy.
sub sync
{
    my ($self, $channel, @args) = @_;
    my %o = ref $args[0] ? %{ shift @args } : ();
    $self->{relay}->clear if $channel eq 'proxy';
    my $r = $self->{imap}->tool({ timeout => 100, %o }, 'sync_client', '-o', '-v', '-n', $channel,
        @args);
    $r->{commands} = [$self->{relay}->commands] if $channel eq 'proxy';
    $self->note_memory;
    return $r;
}

# Work off what the rolling log of a channel holds, once.
sub sync_log_once
{
    my ($self, $channel) = @_;
    return $self->sync($channel, '-R', '-1');
}

# Start the rolling daemon of a channel; returns an object for stop_rolling.
sub start_rolling
{
    my ($self, $channel) = @_;
    my $down = "$self->{dir}/$channel.shutdown";
    my $err = "$self->{dir}/rolling.$channel.err";
    my $pid = start_cmd(
        cmd => [as_cyrus('/usr/lib/cyrus/bin/sync_client', '-C', $self->{imap}->conf, '-v', '-r',
            '-d', 1, '-F', $down, '-n', $channel)],
        env => { %{ $self->env }, CYRUS_ISDAEMON => 1 }, err => $err);
    return { pid => $pid, down => $down, channel => $channel, err => $err };
}

# Has the daemon worked off its log? It renames it before it begins, and just then neither name may be
# seen; so only who sees nothing twice has seen that there is nothing.
sub is_rolled
{
    my ($self, $daemon) = @_;
    my $dir = "$self->{imap}{dir}/conf/sync/$daemon->{channel}";
    return !grep { -s } map { glob "$dir/log*" } 1, 2;
}

# Wait until it has.
sub wait_rolling
{
    my ($self, $daemon, $seconds) = @_;
    wait_until("rolling log of $daemon->{channel}", sub { $self->is_rolled($daemon) }, $seconds // 60);
    $self->note_memory;
    return;
}

sub stop_rolling
{
    my ($self, $daemon) = @_;
    run_cmd(cmd => [as_cyrus('touch', $daemon->{down})]);
    my $rc = reap($daemon->{pid}, 30);
    unlink $daemon->{down};
    return $rc;
}

# The same with SIGKILL.
sub kill_rolling
{
    my ($self, $daemon) = @_;
    kill KILL => $daemon->{pid};
    return reap($daemon->{pid}, 30);
}

# ---- the backup's own programs -------------------------------------------

# cyr_backup with the backup server's configuration.
sub cyr_backup
{
    my ($self, @args) = @_;
    return $self->{backup}->tool({ timeout => 100 },
        is_debian() ? 'cyr_backup' : program('cyr_backup'), @args);
}

# ctl_backups, the same way.
sub ctl_backups
{
    my ($self, @args) = @_;
    my %o = ref $args[0] ? %{ shift @args } : ();
    return $self->{backup}->tool({ timeout => 100, %o },
        is_debian() ? 'ctl_backups' : program('ctl_backups'), @args);
}

# The same, killed with all its processes after some seconds. How many of them were alive then.
sub killed_ctl_backups
{
    my ($self, $seconds, @args) = @_;
    my $pid = start_cmd(session => 1, env => $self->{backup}->env,
        cmd => [as_cyrus(program('ctl_backups'), '-C', $self->{backup}->conf, @args)]);
    sleep $seconds;
    my @alive = $self->{backup}->session($pid);
    kill KILL => @alive;
    reap($pid, 20);
    return scalar @alive;
}

# Path of the data file of a user ('%SHARED' for the shared mailboxes); undef if none. (A process that
# was killed while it made one may have left an empty one, which is nobody's.)
sub data_file
{
    my ($self, $user) = @_;
    my @f = grep { /\/\Q$user\E_[^.\/]{6}$/ } glob "$self->{backup}{dir}/part{,2}/*/*";
    return (sort { -s $b <=> -s $a } @f)[0];
}

sub all_data_files
{
    my ($self) = @_;
    return grep { -f && /_[^.\/]{6}$/ } glob "$self->{backup}{dir}/part{,2}/*/*";
}

# ---- memory --------------------------------------------------------------

# Remember the largest VmHWM seen of any backupd.
sub note_memory
{
    my ($self) = @_;
    for my $kib (grep { defined } map { peak_memory($_) } $self->{backup}->children('backupd')) {
        $self->{peak} = $kib if $kib > $self->{peak};
    }
    return $self->{peak};
}

# ---- the end -------------------------------------------------------------

sub stop
{
    my ($self) = @_;
    return if $self->{owner} != $$;
    delete $self->{clients};
    delete $self->{admin};
    $self->{relay}->stop if $self->{relay};
    for my $role (qw(imap backup replica)) {
        $self->{$role}->stop if $self->{$role};
    }
    my $end = time + 5;
    while (my @left = processes_of($self->{dir})) {
        kill +(time > $end ? 'KILL' : 'TERM') => @left;
        waitpid $_, POSIX::WNOHANG() for @left;
        sleep 0.02;
    }
    delete $living{ $self->{dir} };
    unguard_dir($self->{guard});
    unlink clock_files($self->{dir});
    if ($ENV{KEEP}) {
        print STDERR "# kept $self->{dir}\n";
    } else {
        remove_tree($self->{dir});
    }
    return;
}

sub DESTROY
{
    my ($self) = @_;
    local ($?, $@, $!);
    $self->stop if $living{ $self->{dir} };
    return;
}

# A reader of our output that goes away must not keep END from running.
$SIG{PIPE} = 'IGNORE';
for my $sig (qw(INT TERM HUP)) {
    $SIG{$sig} = sub { print STDERR "# ended by SIG$sig\n"; exit 130 };
}

END {
    local ($?, $@, $!);
    $_->stop for values %living;
}

1;
