# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios - what happens to mailboxes in real life, one thing after the other.
# Each step changes the live server; run_all() then syncs in one of sync_client's modes and
# wants three things: the sync succeeds, both sides are equal, and syncing again sends nothing.
package CBTest::Scenarios;
use strict;
use warnings;
use CBTest::Compare qw(differences foreign_mail);
use CBTest::Imap;
use CBTest::Relay;
use CBTest::Server qw(mailbox_names);
use CBTest::Util qw(is_debian program slurp);
use Exporter 'import';
use Test::More;
our @EXPORT_OK = qw(run_all run_step synced_ok unwanted no_differences memory_ok @STEPS);

*message = \&CBTest::Imap::message;
*noise = \&CBTest::Imap::noise;

# The steps: [ name, code ]. Code gets { site, user, reader, imap (the user's), admin }.
our @STEPS = (
    ['first sync of nested folders', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $_) for 'INBOX.Work', 'INBOX.Work.2025', 'INBOX.Work.2026',
            'INBOX.Deep.er.and.deeper', 'INBOX.Caf&AOk-', 'INBOX.My old Folder', 'INBOX.Sent';
        $c->{site}->deliver($c->{user}, map { message() } 1 .. 5);
        $c->{imap}->append('INBOX.Work.2026', message(body => noise(20_000, 7)), flags => ['\\Flagged']);
        $c->{imap}->append('INBOX.Work.2026', message(), date => ' 1-Jan-2001 00:00:01 -0800');
        $c->{imap}->append('INBOX.Deep.er.and.deeper', message());
        $c->{imap}->append('INBOX.Caf&AOk-', message(body => "Gr\xc3\xbc\xc3\x9fe\r\n"));
        $c->{imap}->append('INBOX.My old Folder', message(body => "{5+}\r\nAPPLY SUB (\r\n"));
        $c->{imap}->append('INBOX.Work.2025', message()) for 1 .. 3;
    }],
    ['append', sub {
        my ($c) = @_;
        $c->{site}->deliver($c->{user}, message(), message(body => noise(3000, 3)));
        $c->{imap}->append('INBOX.Work', message(), flags => ['\\Seen', '\\Draft', 'NonJunk']);
        $c->{imap}->append('INBOX.Work', message(body => ''));
    }],
    ['message of 1.5 MB', sub {
        my ($c) = @_;
        $c->{imap}->append('INBOX.Work', message(body => noise(1_500_000, 11)));
    }],
    ['nobody touched anything', sub { }],
    ['reading: \\Recent and \\Seen', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX');
        $c->{imap}->must(fetch => '1:2', '(BODY[])');
        $c->{imap}->must('unselect');
    }],
    ['flags and keywords set', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX');
        $c->{imap}->must(store => '1', '+FLAGS', '(\\Flagged \\Answered $Forwarded)');
        $c->{imap}->must(store => '2:4', '+FLAGS', '(\\Deleted Some-Keyword has:attachment)');
        $c->{imap}->must('unselect');
    }],
    ['flags and keywords cleared', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX');
        $c->{imap}->must(store => '1', 'FLAGS', '()');
        $c->{imap}->must(store => '2:3', '-FLAGS', '(\\Deleted Some-Keyword)');
        $c->{imap}->must('unselect');
    }],
    ['expunge', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX');
        $c->{imap}->must('expunge');
        $c->{imap}->must(store => '2', '+FLAGS', '(\\Deleted)');
        $c->{imap}->must('expunge');
        $c->{imap}->must('unselect');
    }],
    ['delivered and expunged between two syncs', sub {
        my ($c) = @_;
        $c->{imap}->append('INBOX.Sent', message()) for 1 .. 3;
        $c->{imap}->must(select => 'INBOX.Sent');
        $c->{imap}->must(store => '2', '+FLAGS', '(\\Deleted)');
        $c->{imap}->must('expunge');
        $c->{imap}->must('unselect');
    }],
    ['copy', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX');
        $c->{imap}->must(copy => '1:*', 'INBOX.Work');
        $c->{imap}->must('unselect');
    }],
    ['move and back again', sub {
        my ($c) = @_;
        for my $way (['INBOX.Work.2025', 'INBOX.Sent'], ['INBOX.Sent', 'INBOX.Work.2025']) {
            $c->{imap}->must(select => $way->[0]);
            $c->{imap}->must(copy => '1:2', $way->[1]);
            $c->{imap}->must(store => '1:2', '+FLAGS', '(\\Deleted)');
            $c->{imap}->must('expunge');
            $c->{imap}->must('unselect');
        }
    }],
    ['the same message twice in one folder', sub {
        my ($c) = @_;
        my $msg = message(subject => 'again and again');
        $c->{imap}->append('INBOX.Work.2026', $msg, flags => $_) for [], ['\\Seen'], ['$x'];
    }],
    ['one of the same messages expunged', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX.Work.2026');
        my $uids = $c->{imap}->must(search => 'subject', 'again and again');
        $c->{imap}->must(store => $uids->[0], '+FLAGS', '(\\Deleted)');
        $c->{imap}->must('expunge');
        $c->{imap}->must('unselect');
    }],
    ['folder created and renamed', sub {
        my ($c) = @_;
        $c->{imap}->must(create => 'INBOX.New');
        $c->{imap}->must(rename => 'INBOX.New', 'INBOX.Newer');
        $c->{imap}->must(rename => 'INBOX.Work', 'INBOX.Job');
    }],
    ['folder deleted (delayed)', sub {
        my ($c) = @_;
        $c->{imap}->must(delete => 'INBOX.Sent');
    }],
    ['folder of the same name again', sub {
        my ($c) = @_;
        $c->{imap}->must(create => 'INBOX.Sent');
        $c->{imap}->append('INBOX.Sent', message());
    }],
    ['renamed one after the other', sub {
        my ($c) = @_;
        $c->{imap}->must(rename => 'INBOX.Sent', 'INBOX.Sent-old');
        $c->{imap}->must(rename => 'INBOX.Newer', 'INBOX.Sent');
        $c->{imap}->must(create => 'INBOX.Newer');
    }],
    ['intermediate folders', sub {
        my ($c) = @_;
        $c->{imap}->must(create => 'INBOX.Inter.mediate.child');
        $c->{imap}->append('INBOX.Inter.mediate.child', message());
        make_intermediate($c, "user.$c->{user}.$_") for 'Inter', 'Inter.mediate';
    }],
    ['subscriptions', sub {
        my ($c) = @_;
        $c->{imap}->must(subscribe => $_) for 'INBOX.Job', 'INBOX.Job.2026', 'INBOX.Caf&AOk-';
    }],
    ['subscription dropped', sub {
        my ($c) = @_;
        $c->{imap}->must(unsubscribe => 'INBOX.Job.2026');
    }],
    ['Sieve scripts', sub {
        my ($c) = @_;
        my $sieve = $c->{site}->sieve_as($c->{user});
        $sieve->put(main => "require [\"fileinto\"];\r\nif header :is \"x\" \"y\" {\r\n  fileinto \"INBOX.Job\";\r\n}\r\n");
        $sieve->put(other => "# Gr\xc3\xbc\xc3\x9fe, 100% \\ \"\r\nkeep;\r\n");
        $sieve->activate('main');
    }],
    ['Sieve script changed, another active', sub {
        my ($c) = @_;
        my $sieve = $c->{site}->sieve_as($c->{user});
        $sieve->put(main => "discard;\r\n");
        $sieve->activate('other');
    }],
    ['Sieve script deleted', sub {
        my ($c) = @_;
        my $sieve = $c->{site}->sieve_as($c->{user});
        $sieve->activate('');
        $sieve->delete('main');
    }],
    ['quota', sub {
        my ($c) = @_;
        $c->{admin}->must(setquota => "user.$c->{user}", '(STORAGE 100000 MESSAGE 5000)');
    }],
    ['quota changed', sub {
        my ($c) = @_;
        $c->{admin}->must(setquota => "user.$c->{user}", '(STORAGE 200000)');
    }],
    ['mailbox annotations', sub {
        my ($c) = @_;
        $c->{imap}->must(setmetadata => 'INBOX.Job', '/shared/comment', 'shared comment');
        $c->{imap}->must(setmetadata => 'INBOX.Job', '/private/comment',
            { Literal => "two \"lines\"\r\nof \\ text, Gr\xc3\xbc\xc3\x9fe" });
        $c->{imap}->must(setmetadata => 'INBOX.Newer', '/private/specialuse', '\\Archive');
        $c->{admin}->must(setmetadata => "user.$c->{user}.Job", '/shared/vendor/cmu/cyrus-imapd/expire', '7');
    }],
    ['mailbox annotation removed', sub {
        my ($c) = @_;
        $c->{imap}->must(setmetadata => 'INBOX.Job', '/shared/comment', undef);
    }],
    ['message annotations', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX.Job');
        $c->{imap}->raw('UID STORE', '1 ANNOTATION (/comment (value.shared "shared note" value.priv "private note"))');
        $c->{imap}->raw('UID STORE', '2 ANNOTATION (/comment (value.priv "only mine"))');
        $c->{imap}->must('unselect');
    }],
    ['message annotation removed', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX.Job');
        $c->{imap}->raw('UID STORE', '1 ANNOTATION (/comment (value.priv NIL))');
        $c->{imap}->must('unselect');
    }],
    ['ACL', sub {
        my ($c) = @_;
        $c->{admin}->must(setacl => "user.$c->{user}.Job", $c->{reader}, 'lrs');
        $c->{admin}->must(setacl => "user.$c->{user}.Newer", 'anyone', 'lr');
    }],
    ['another user reads', sub {
        my ($c) = @_;
        my $imap = $c->{site}->imap_as($c->{reader});
        $imap->must(select => "user.$c->{user}.Job");
        $imap->must(store => '1:3', '+FLAGS', '(\\Seen)');
        $imap->must('unselect');
        # the seen database is written when the mailbox is left; a new connection sees to it
        $imap->must('noop');
    }],
    ['shared folders', sub {
        my ($c) = @_;
        for my $name ('shared', 'shared.team', 'shared.team.plans') {
            $c->{admin}->must(create => $name);
            $c->{admin}->must(setacl => $name, 'admin', 'lrswipkxtecda');
            $c->{admin}->must(setacl => $name, 'anyone', 'lrs');
        }
        $c->{admin}->append('shared.team', message(), flags => ['\\Flagged']);
        $c->{admin}->append('shared.team.plans', message(body => noise(5000, 5)));
    }],
    ['shared folder renamed, another deleted', sub {
        my ($c) = @_;
        $c->{admin}->must(rename => 'shared.team.plans', 'shared.team.deeds');
        $c->{admin}->append('shared.team.deeds', message());
        $c->{admin}->must(create => 'shared.gone');
        $c->{admin}->must(delete => 'shared.gone');
    }],
    ['everything at once', sub {
        my ($c) = @_;
        $c->{imap}->must(create => 'INBOX.Last');
        $c->{imap}->must(select => 'INBOX.Job');
        $c->{imap}->must(copy => '1:4', 'INBOX.Last');
        $c->{imap}->must(store => '1:2', '+FLAGS', '(\\Deleted $gone)');
        $c->{imap}->must('expunge');
        $c->{imap}->must('unselect');
        $c->{imap}->must(rename => 'INBOX.Job.2026', 'INBOX.Last.2026');
        $c->{site}->deliver($c->{user}, message());
        $c->{imap}->must(delete => 'INBOX.Sent-old');
    }],
);

# Debian's 3.6.1 makes no new intermediate mailboxes, but servers with a past have them:
# a name without a mailbox, there only because it has children.
sub make_intermediate
{
    my ($c, $name) = @_;
    my $imap = $c->{site}{imap};
    my @db = ("$imap->{dir}/conf/mailboxes.db", 'twoskip');
    (my $key = $name) =~ tr/./\x1f/;
    my $old = $imap->tool('cyr_dbtool', @db, 'get', "N$key")->{out};
    my ($id) = $old =~ / I (\S+) / or die "cyr_dbtool: $old\n";
    for my $set (["N$key", "I $id"], ["I$id", "N $key"]) {
        my $r = $imap->tool('cyr_dbtool', @db, 'set', $set->[0], "%(T ei $set->[1] C 1 F 1 M 1)");
        die "cyr_dbtool: $r->{err}\n" if $r->{rc} != 0;
    }
    $c->{intermediate}{$name} = 1;
    return;
}

# Names that sync_client -m gets: what is there now and what was there before.
sub all_names
{
    my ($c) = @_;
    my %names = map { $_ => 1 } map { mailbox_names($c->{site}, $_) } @{$c}{qw(user reader)}, '%SHARED';
    $names{$_} = 1 for keys %{ $c->{intermediate} // {} };
    my @now = sort keys %names;
    $names{$_} = 1 for @{ $c->{before} // [] };
    $c->{before} = \@now;
    return sort keys %names;
}

# Each mode: { sync => ran after the step, again => must not send anything, shared => carries
# shared folders too, skip => what it does not carry }. Both return a list of results of sync().
our %MODES = (
    user => {
        sync => sub { my ($c) = @_; return $c->{site}->sync('proxy', '-u', @{$c}{qw(user reader)}) },
        again => sub { my ($c) = @_; return $c->{site}->sync('proxy', '-u', @{$c}{qw(user reader)}) },
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
        shared => 1,
        sync => sub { my ($c) = @_; return $c->{site}->sync_log_once('proxy') },
        again => sub { my ($c) = @_; return $c->{site}->sync('proxy', '-A') },
    },
);

sub by_mailbox
{
    my ($c) = @_;
    return ($c->{site}->sync('proxy', '-m', all_names($c)),
        $c->{site}->sync('proxy', '-s', @{$c}{qw(user reader)}));
}

# Commands of a second sync that should not be there. Intermediate mailboxes are told anew each time.
sub unwanted
{
    return grep {
        $_->{line} =~ /^APPLY /
            && !($_->{line} =~ /^APPLY MAILBOX %\(.*MBOXTYPE e?i / && $_->{line} !~ / RECORD /)
    } @_;
}

# All commands of results whose exit is not 0 or which the server did not answer with OK.
sub refused
{
    my (@results) = @_;
    return grep { ($_->{reply} // '') !~ /^OK / } map { @{ $_->{commands} // [] } } @results;
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
        my $done = eval { $code->($c); 1 };
        ok($done, 'done on the server') or diag($@);
        my @results = eval { $m->{sync}->($c) };
        diag($@) if $@;
        my $ok = synced_ok('sync', @results);
        for my $user ($c->{user}, $c->{reader}, $m->{shared} ? '%SHARED' : ()) {
            next if $user eq '%SHARED' && !mailbox_names($c->{site}, $user);
            my @d = eval { differences($c->{site}, $user, skip => $m->{skip} // {}) };
            push @d, $@ if $@;
            $ok &= no_differences("$user: both sides equal", @d);
        }
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

# All steps in one mode, then a last look at everything. STEPS=regex picks some.
sub run_all
{
    my ($site, $mode, $user, $reader) = @_;
    my $c = {
        site => $site, user => $user, reader => $reader,
        imap => $site->imap_as($user), admin => $site->admin,
    };
    my $pick = $ENV{STEPS} // '.';
    for my $step (@STEPS) {
        run_step($c, $mode, @{$step}) if $step->[0] =~ /$pick/ || $step->[0] =~ /^first/;
    }
    my @d = eval { differences($site, $user, skip => $MODES{$mode}{skip} // {}, full => 1, classic => 1) };
    no_differences('at last everything once more, the classic forms too', @d, $@ ? $@ : ());
    no_differences("nothing of anybody else in the backup of $_", foreign_mail($site, $_)) for $user, $reader;
    memory_ok($site);
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
