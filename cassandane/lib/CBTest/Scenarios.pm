# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios - what happens to mailboxes in real life, one thing after the other.
#
# A theme (CBTest/Scenarios/THEME.pm) has steps(): a list of [ name, code ], and each step
# changes the live server. Then a sync in one of sync_client's modes follows, after which three
# things must be true: the sync succeeded, both sides are equal, and syncing again sends nothing.
# The code of a step gets a CBTest::Case.
#
# STEPS=regex runs only the steps of such names (and those that begin with "first"),
# MODES=regex only these modes.
package CBTest::Scenarios;
use strict;
use warnings;
use CBTest::Case;
use CBTest::Compare qw(differences foreign_mail);
use CBTest::Relay;
use CBTest::Server qw(mailbox_names);
use CBTest::Site;
use CBTest::Util qw(is_debian program slurp);
use Exporter 'import';
use Test::More;
our @EXPORT_OK = qw(run_all run_theme run_step synced_ok unwanted no_differences memory_ok);

# Names that sync_client -m gets: what is there now and what was there before.
sub all_names
{
    my ($c) = @_;
    my %names = map { $_ => 1 } map { mailbox_names($c->{site}, $_) } $c->users, '%SHARED';
    $names{$_} = 1 for keys %{ $c->{intermediate} // {} };
    my @now = sort keys %names;
    $names{$_} = 1 for @{ $c->{before} // [] };
    $c->{before} = \@now;
    return map { $c->{site}->names->for_admin($_) } sort keys %names;
}

# Each mode: { sync => ran after the step, again => must not send anything, shared => carries
# shared folders too, skip => what it does not carry }. Both return a list of results of sync().
our %MODES = (
    user => {
        sync => \&by_user, again => \&by_user,
    },
    mailboxes => {
        shared => 1, skip => { quota => 1 },
        sync => \&by_mailbox, again => \&by_mailbox,
    },
    all => {
        shared => 1,
        sync => sub { my ($c) = @_; return $c->{site}->sync('proxy', '-A') },
        again => sub { my ($c) = @_; return $c->{site}->sync('proxy', '-A') },
    },
    rolling => {
        shared => 1, server => 1,
        sync => \&by_log,
        again => sub { my ($c) = @_; return $c->{site}->sync('proxy', '-A') },
    },
);

sub by_user
{
    my ($c) = @_;
    return $c->{site}->sync('proxy', '-u', $c->users);
}

sub by_mailbox
{
    my ($c) = @_;
    return ($c->{site}->sync('proxy', '-m', all_names($c)), $c->{site}->sync('proxy', '-s', $c->users));
}

# A run that failed leaves its piece of the log, and the next works off that piece alone. What is
# known not to be in the log at all must come with -A.
sub by_log
{
    my ($c) = @_;
    my ($site, @results) = ($c->{site});
    for my $try (1 .. 3) {
        push @results, $site->sync_log_once('proxy');
        last unless log_left($site);
    }
    if (my $why = $c->{unlogged}) {
        my $r = $site->sync('proxy', '-A');
        ok(scalar(unwanted(@{ $r->{commands} })), "sent by -A only: $why");
        push @results, $r;
    }
    return @results;
}

sub log_left
{
    my ($site) = @_;
    return scalar grep { -s } glob "$site->{imap}{dir}/conf/sync/proxy/log*";
}

# Commands of a second sync that should not be there. Intermediate mailboxes are told anew each time.
sub unwanted
{
    return grep {
        $_->{line} =~ /^APPLY /
            && !($_->{line} =~ /^APPLY MAILBOX %\(.*MBOXTYPE e?i / && $_->{line} !~ / RECORD /)
    } @_;
}

# All commands which the server did not answer with OK. That something is not there which shall
# go is no refusal, to the client neither.
sub refused
{
    my (@results) = @_;
    return grep { ($_->{reply} // '') !~ /^OK / }
        grep { $_->{line} !~ /^APPLY UN(?:MAILBOX|USER) / || $_->{reply} !~ /^NO IMAP_MAILBOX_NONEXISTENT/ }
        map { @{ $_->{commands} // [] } } @results;
}

sub synced_ok
{
    my ($what, @results) = @_;
    my @bad = grep { $_->{rc} != 0 } @results;
    ok(!@bad, $what) or diag(map { "exit $_->{rc}\n$_->{out}$_->{err}\n" } @bad);
    my @refused = refused(@results);
    ok(!@refused, "$what: every command is answered OK")
        or diag(CBTest::Relay::excerpt(@refused[0 .. ($#refused > 4 ? 4 : $#refused)]));
    return !@bad && !@refused;
}

sub no_differences
{
    my ($what, @d) = @_;
    my $n = @d;
    ok(!$n, $what) or diag(join "\n", "$n differences", @d[0 .. ($n > 12 ? 11 : $n - 1)]);
    return !$n;
}

# One step of a mode, as a subtest.
sub run_step
{
    my ($c, $mode, $name, $code) = @_;
    my $m = $MODES{$mode};
    return subtest $name => sub {
        delete @{$c}{qw(fails resend unlogged)};
        my $done = eval { $code->($c, $mode); 1 };
        ok($done, 'done on the server') or diag($@);
        my @results = eval { $m->{sync}->($c) };
        diag($@) if $@;
        if ($c->{fails}) {
            ok(log_left($c->{site}) || grep({ $_->{rc} != 0 } @results), "sync_client fails: $c->{fails}");
            return;
        }
        my $ok = synced_ok('sync', allow_checksum($c, @results));
        $ok &= both_equal($c, $m);
        diag("the sync was:\n", CBTest::Relay::excerpt(
            grep { $ENV{VERBOSE} || $_->{line} =~ /^APPLY/ } map { @{ $_->{commands} } } @results)) unless $ok;
        my @again = eval { $m->{again}->($c) };
        diag($@) if $@;
        synced_ok('second sync', @again);
        my @unwanted = unwanted(map { @{ $_->{commands} } } @again);
        ok(!@unwanted, 'second sync sends nothing')
            or diag(CBTest::Relay::excerpt($ENV{VERBOSE} ? (map { @{ $_->{commands} } } @again) : @unwanted));
    };
}

# In a step that says so the master has gone back, so that everything is asked for once more:
# one CHECKSUM, and not a single other refusal.
sub allow_checksum
{
    my ($c, @results) = @_;
    return @results unless $c->{resend};
    for my $r (@results) {
        my @kept = grep { ($_->{reply} // '') !~ /^NO IMAP_SYNC_CHECKSUM/ } @{ $r->{commands} };
        $c->{resend}-- if @kept < @{ $r->{commands} };
        $r = { %{$r}, commands => \@kept };
    }
    ok(!$c->{resend}, 'everything was asked for once more');
    return @results;
}

# What the server has now is what the backup has now, for everybody the mode is about.
sub both_equal
{
    my ($c, $m) = @_;
    my $ok = 1;
    for my $user ($c->users, $m->{shared} ? '%SHARED' : ()) {
        next if $user eq '%SHARED' && !mailbox_names($c->{site}, $user);
        my @d = eval { differences($c->{site}, $user, compare_options($c, $m, $user)) };
        push @d, $@ if $@;
        $ok &= no_differences("$user: both sides equal", @d);
    }
    if ($m->{server}) {
        $ok &= no_differences('annotations of the server', server_annotations($c->{site}));
    }
    for my $user ($m->{server} ? @{ $c->{gone} } : ()) {
        $ok &= no_differences("$user: gone", gone($c->{site}, $user));
    }
    return $ok;
}

sub compare_options
{
    my ($c, $m, $user) = @_;
    return (skip => $m->{skip} // {}, contents => $c->{contents},
        kept => $user eq $c->{user} ? $c->{kept} : undef);
}

# The mail server's annotations against the backup's. Only the rolling log tells of them.
sub server_annotations
{
    my ($site) = @_;
    my ($source, $backup) = map { join ' ', sort @{ $_->command('GET ANNOTATION ""')->{lines} } }
        $site->source_csync, $site->backup_csync;
    return $source eq $backup ? () : ("server has $source", "backup has $backup");
}

# A user whom the server does not know any more has no live mailbox in the backup, and no other
# thing; what there was is still there.
sub gone
{
    my ($site, $user) = @_;
    my $now = eval { CBTest::Compare::backup_state($site, $user) } // return $@;
    my @d = map { "$_->{mboxname} is still there" } @{ $now->{mailboxes} };
    push @d, map { @{ $now->{$_} // [] } ? "$_ are still there" : () } qw(subscriptions sieve quota seen);
    my $r = $site->cyr_backup($user, 'list', 'messages');
    push @d, "list messages: exit $r->{rc}: $r->{err}" if $r->{rc} != 0;
    push @d, 'all messages are lost' if $r->{out} eq '';
    return @d;
}

# All steps of themes (of Basic if none is named) in one mode, then a last look at everything.
sub run_all
{
    my ($site, $mode, $user, $reader, @themes) = @_;
    my $c = CBTest::Case->new(site => $site, user => $user, reader => $reader);
    run_steps($c, $mode, map { steps_of($_) } @themes ? @themes : 'Basic');
    memory_ok($site);
    return;
}

sub steps_of
{
    my ($theme) = @_;
    my $module = "CBTest::Scenarios::$theme";
    (my $file = "$module.pm") =~ s{::}{/}g;
    require $file;
    return $module->can('steps')->();
}

sub run_steps
{
    my ($c, $mode, @steps) = @_;
    my $pick = $ENV{STEPS} // '.';
    for my $step (@steps) {
        run_step($c, $mode, @{$step}) if $step->[0] =~ /$pick/ || $step->[0] =~ /^first/;
    }
    my @d = eval { differences($c->{site}, $c->{user}, full => 1, classic => 1,
        compare_options($c, $MODES{$mode}, $c->{user})) };
    no_differences('at last everything once more, the classic forms too', @d, $@ ? $@ : ());
    no_differences("nothing of anybody else in the backup of $_", foreign_mail($c->{site}, $_))
        for $c->users;
    return;
}

# One theme in several modes, each with a site of its own. Keys: modes, user, reader (default
# alice and frank), others (more users), options (imapd.conf of the mail server).
sub run_theme
{
    my ($theme, %o) = @_;
    my $pick = $ENV{MODES} // '.';
    my ($user, $reader) = ($o{user} // 'alice', $o{reader} // 'frank');
    for my $mode (grep { /$pick/ } @{ $o{modes} // [qw(user mailboxes all rolling)] }) {
        subtest "$theme, $mode" => sub {
            my $site = CBTest::Site->new(users => [$user, $reader, @{ $o{others} // [] }],
                options => { imap => $o{options} // {} });
            my $c = CBTest::Case->new(site => $site, user => $user, reader => $reader,
                others => [@{ $o{others} // [] }]);
            run_steps($c, $mode, steps_of($theme));
            memory_ok($site);
            $site->stop;
        };
    }
    return;
}

# No backupd of this site ever needed more than 32 MiB; under AddressSanitizer, which keeps
# what was freed, this can only be said roughly.
sub memory_ok
{
    my ($site) = @_;
    my $asan = !is_debian() && slurp(program('backupd')) =~ /__asan_init/;
    my $limit = ($asan ? 16 : 1) * 32 * 1024;
    my $peak = $site->note_memory;
    ok($peak > 0 && $peak <= $limit, "backupd's peak memory is at most $limit KiB") or diag("it was $peak KiB");
    note("peak memory of backupd: $peak KiB");
    return;
}

1;
